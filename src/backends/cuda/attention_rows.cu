#include <limits>

#include "backends/cuda/attention_rows.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct AttentionRows {
    using C = compute_t<T>;
    const T *q, *k, *v;
    const std::int32_t *positions, *starts;  // null where there are none
    T* o;
    C* lse;
    AttentionExtents e;
    C scale;

    // Query `row` sees the keys from `first` up to `visible`.
    __device__ std::int64_t first(std::int64_t batch, std::int64_t row) const {
        return starts ? first_key(starts[batch * e.t + row], row) : 0;
    }
    __device__ std::int64_t visible(std::int64_t batch, std::int64_t row) const {
        if (!positions) return row + 1;
        const std::int64_t n = std::int64_t{positions[batch * e.t + row]} + 1;
        return n < 0 ? 0 : n < e.s ? n : e.s;
    }
};

// Online softmax over some of a query's keys: e^top * sum = sum e^score, and the same of scores
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

// kSplit warps share the keys of a query.
template <class Lanes, int kSplit, class T>
__global__ void __launch_bounds__(kBlock) attention_rows_kernel(AttentionRows<T> a) {
    using C = compute_t<T>;
    constexpr int E = Lanes::E, kRows = kWarps / kSplit;
    const AttentionExtents& e = a.e;
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
    const int d = static_cast<int>(e.d);
    // Late queries, which see the most keys, come first.
    const std::int64_t tile = gridDim.x / (e.b * e.h) - 1 - blockIdx.x / (e.b * e.h);
    const std::int64_t batch = blockIdx.x / e.h % e.b, head = blockIdx.x % e.h;
    const std::int64_t row = tile * kRows + warp / kSplit;
    if (row >= e.t) return;

    const std::int64_t visible = a.visible(batch, row), step = e.g * e.d;
    const T* k = a.k + e.key_row(batch, 0, e.group_of(head));
    const T* v = a.v + e.key_row(batch, 0, e.group_of(head));
    C q[E];
    Lanes::load(a.q + e.query_row(batch, row, head), d, q);
#pragma unroll
    for (int i = 0; i < E; ++i) q[i] *= a.scale;

    SoftmaxSums<C, E> mine;
    for (std::int64_t s = a.first(batch, row) + warp % kSplit * kTogether; s < visible;
         s += kSplit * kTogether) {
        C keys[kTogether][E], values[kTogether][E], score[kTogether];
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const std::int64_t at = (s + j < visible ? s + j : visible - 1) * step;
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
            const bool seen = s + j < visible;
            const C p = exp(score[j] - higher);
            mine.sum += seen ? p : C(0);
#pragma unroll
            for (int i = 0; i < E; ++i) mine.values[i] += seen ? p * values[j][i] : C(0);
        }
    }

    if constexpr (kSplit > 1) {
        static_assert(kSplit == kWarps);
        __shared__ C tops[kWarps], sums[kWarps], parts[kWarps][E][kWarp];
        tops[warp] = mine.top;
        sums[warp] = mine.sum;
#pragma unroll
        for (int i = 0; i < E; ++i) parts[warp][i][lane] = mine.values[i];
        __syncthreads();
        if (warp != 0) return;
        C higher = mine.top;
        for (int w = 1; w < kWarps; ++w) higher = fmax(higher, tops[w]);
        mine.scale_to(higher);
        for (int w = 1; w < kWarps; ++w) {
            const C factor = exp(tops[w] - higher);
            mine.sum += sums[w] * factor;
#pragma unroll
            for (int i = 0; i < E; ++i) mine.values[i] += parts[w][i][lane] * factor;
        }
    }

    const C factor = visible > 0 ? C(1) / mine.sum : C(0);
#pragma unroll
    for (int i = 0; i < E; ++i) mine.values[i] *= factor;
    // o may be q: this row of it has been read.
    Lanes::store(a.o + e.query_row(batch, row, head), d, mine.values);
    if (lane == 0) {
        a.lse[e.lse_at(batch, row, head)] =
            visible > 0 ? mine.top + log(mine.sum) : -std::numeric_limits<C>::infinity();
    }
}

// As in decoding, where a warp for each would leave the GPU idle. Of the shape alone, since the
// order of sums depends on it.
bool few_queries(const AttentionExtents& e) { return e.b * e.t * e.h < 4096; }

template <class T>
void attention_rows(const AttentionRows<T>& a) {
    const AttentionExtents& e = a.e;
    if (e.b * e.t * e.h == 0) return;
    dispatch_lanes<T>(e.d, [&](auto lanes) {
        using Lanes = decltype(lanes);
        const auto launch = [&]<int kSplit>() {
            const std::int64_t tiles = ceil_div(e.t, kWarps / kSplit);
            attention_rows_kernel<Lanes, kSplit>
                <<<static_cast<unsigned>(tiles * e.b * e.h), kBlock, 0, stream()>>>(a);
        };
        if (few_queries(e)) {
            launch.template operator()<kWarps>();
        } else {
            launch.template operator()<1>();
        }
    });
    launched("attention");
}

}  // namespace

Refusal reject_attention_rows(const NodeView& node) { return reject_long_heads(node); }

Prepared prepare_attention_rows(const NodeView& node) {
    const AttentionExtents e = attention_extents(node);
    const Attention op = std::get<Attention>(node.op);
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[e, op](const KernelCall& call) {
            const auto* more = call.in.size() == 4 ? call.in[3].as<std::int32_t>() : nullptr;
            attention_rows(AttentionRows<T>{.q = call.in[0].as<T>(),
                                            .k = call.in[1].as<T>(),
                                            .v = call.in[2].as<T>(),
                                            .positions = op.documents ? nullptr : more,
                                            .starts = op.documents ? more : nullptr,
                                            .o = call.out[0].as<T>(),
                                            .lse = call.out[1].as<C>(),
                                            .e = e,
                                            .scale = C(op.scale)});
        }};
    });
}

}  // namespace octavo::cuda
