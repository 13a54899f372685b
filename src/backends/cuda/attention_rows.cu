#include <limits>

#include "backends/cuda/attention_rows.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct AttentionRows {
    using C = compute_t<T>;
    const T *q, *k, *v;
    const std::int32_t* starts;  // of each query's document; null: 0
    T* o;
    C* lse;
    AttentionExtents e;
    C scale;

    __device__ std::int64_t first(std::int64_t batch, std::int64_t row) const {
        return starts ? first_key(starts[batch * e.t + row], row) : 0;
    }
};

// Online softmax over a query's keys so far: e^top * sum = sum e^score, and the same of scores
// times values.
template <class C, int E>
struct SoftmaxSums {
    C top = std::numeric_limits<C>::lowest();
    C sum = 0;
    C values[E] = {};

    __device__ void scale_to(C higher) {
        const C factor = exp(top - higher);
        sum *= factor;
#pragma unroll
        for (int i = 0; i < E; ++i) values[i] *= factor;
        top = higher;
    }
};

// A warp takes a query, and all the keys it sees.
template <class Lanes, class T>
__global__ void __launch_bounds__(kBlock) attention_rows_kernel(AttentionRows<T> a) {
    using C = compute_t<T>;
    constexpr int E = Lanes::E;
    const AttentionExtents& e = a.e;
    const int d = static_cast<int>(e.d);
    // Late queries, which see the most keys, come first.
    const std::int64_t tile = gridDim.x / (e.b * e.h) - 1 - blockIdx.x / (e.b * e.h);
    const std::int64_t batch = blockIdx.x / e.h % e.b, head = blockIdx.x % e.h;
    const std::int64_t row = tile * kWarps + threadIdx.x / kWarp;
    if (row >= e.t) return;

    const std::int64_t step = e.g * e.d;
    const T* k = a.k + e.key_row(batch, 0, e.group_of(head));
    const T* v = a.v + e.key_row(batch, 0, e.group_of(head));
    C q[E];
    Lanes::load(a.q + e.query_row(batch, row, head), d, q);
#pragma unroll
    for (int i = 0; i < E; ++i) q[i] *= a.scale;

    SoftmaxSums<C, E> mine;
    for (std::int64_t s = a.first(batch, row); s <= row; s += kTogether) {
        C keys[kTogether][E], values[kTogether][E], score[kTogether];
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const std::int64_t at = (s + j <= row ? s + j : row) * step;
            Lanes::load(k + at, d, keys[j]);
            Lanes::load(v + at, d, values[j]);
        }
        C higher = mine.top;
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            score[j] = warp_sum(dot(q, keys[j]));
            higher = fmax(higher, score[j]);
        }
        mine.scale_to(higher);
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const bool seen = s + j <= row;
            const C p = exp(score[j] - higher);
            mine.sum += seen ? p : C(0);
#pragma unroll
            for (int i = 0; i < E; ++i) mine.values[i] += seen ? p * values[j][i] : C(0);
        }
    }

    const C factor = C(1) / mine.sum;
#pragma unroll
    for (int i = 0; i < E; ++i) mine.values[i] *= factor;
    // o may be q: this row of it has been read.
    Lanes::store(a.o + e.query_row(batch, row, head), d, mine.values);
    if (threadIdx.x % kWarp == 0) {
        a.lse[e.lse_at(batch, row, head)] = mine.top + log(mine.sum);
    }
}

template <class T>
void attention_rows(const AttentionRows<T>& a) {
    const AttentionExtents& e = a.e;
    if (e.b * e.t * e.h == 0) return;
    dispatch_lanes<T>(e.d, [&](auto lanes) {
        const std::int64_t blocks = ceil_div(e.t, kWarps) * e.b * e.h;
        attention_rows_kernel<decltype(lanes)>
            <<<static_cast<unsigned>(blocks), kBlock, 0, stream()>>>(a);
    });
    launched("attention");
}

}  // namespace

Refusal reject_attention_rows(const NodeView& node) { return reject_long_heads(node); }

Prepared prepare_attention_rows(const NodeView& node) {
    const AttentionExtents e = attention_extents(node);
    const float scale = std::get<Attention>(node.op).scale;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[e, scale](const KernelCall& call) {
            attention_rows(AttentionRows<T>{
                .q = call.in[0].as<T>(),
                .k = call.in[1].as<T>(),
                .v = call.in[2].as<T>(),
                .starts = call.in.size() == 4 ? call.in[3].as<std::int32_t>() : nullptr,
                .o = call.out[0].as<T>(),
                .lse = call.out[1].as<C>(),
                .e = e,
                .scale = C(scale)});
        }};
    });
}

}  // namespace octavo::cuda
