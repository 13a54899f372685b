#include "backends/cuda/attention_rows.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct AttentionGradRows {
    using C = compute_t<T>;
    const T *q, *k, *v, *o, *dout;
    const C* lse;
    const std::int32_t* starts;  // of each query's document; null: 0
    T *dq, *dk, *dv;
    C* delta;  // rowsum(do * o), laid out like lse
    AttentionExtents e;
    C scale;

    __device__ std::int64_t first(std::int64_t batch, std::int64_t row) const {
        return starts ? first_key(starts[batch * e.t + row], row) : 0;
    }
};

// dq and delta: a warp takes a query, and all the keys it sees.
template <class Lanes, class T>
__global__ void __launch_bounds__(kBlock) query_gradients_kernel(AttentionGradRows<T> a) {
    using C = compute_t<T>;
    constexpr int E = Lanes::E;
    const AttentionExtents& e = a.e;
    const int d = static_cast<int>(e.d);
    // Late queries, which see the most keys, come first.
    const std::int64_t tile = gridDim.x / (e.b * e.h) - 1 - blockIdx.x / (e.b * e.h);
    const std::int64_t batch = blockIdx.x / e.h % e.b, head = blockIdx.x % e.h;
    const std::int64_t row = tile * kWarps + threadIdx.x / kWarp;
    if (row >= e.t) return;

    const std::int64_t at = e.query_row(batch, row, head), step = e.g * e.d;
    const T* k = a.k + e.key_row(batch, 0, e.group_of(head));
    const T* v = a.v + e.key_row(batch, 0, e.group_of(head));
    C q[E], dout[E], o[E], dq[E] = {};
    Lanes::load(a.q + at, d, q);
    Lanes::load(a.dout + at, d, dout);
    Lanes::load(a.o + at, d, o);
    const C lse = a.lse[e.lse_at(batch, row, head)], delta = warp_sum(dot(dout, o));

    for (std::int64_t s = a.first(batch, row); s <= row; s += kTogether) {
        C keys[kTogether][E], values[kTogether][E];
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const std::int64_t key = (s + j <= row ? s + j : row) * step;
            Lanes::load(k + key, d, keys[j]);
            Lanes::load(v + key, d, values[j]);
        }
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const C score = warp_sum(dot(q, keys[j])), dp = warp_sum(dot(dout, values[j]));
            const C p = exp(a.scale * score - lse);
            const C ds = p * (dp - delta) * a.scale;
#pragma unroll
            for (int i = 0; i < E; ++i) dq[i] += s + j <= row ? ds * keys[j][i] : C(0);
        }
    }
    Lanes::store(a.dq + at, d, dq);
    if (threadIdx.x % kWarp == 0) a.delta[e.lse_at(batch, row, head)] = delta;
}

// dk and dv: a warp takes a key, and all the queries of its heads that see it. dk may be k and dv
// may be v, since nobody else reads this row of them.
template <class Lanes, class T>
__global__ void __launch_bounds__(kBlock) key_gradients_kernel(AttentionGradRows<T> a) {
    using C = compute_t<T>;
    constexpr int E = Lanes::E;
    const AttentionExtents& e = a.e;
    const int d = static_cast<int>(e.d);
    const std::int64_t tile = blockIdx.x / (e.b * e.g);
    const std::int64_t batch = blockIdx.x / e.g % e.b, group = blockIdx.x % e.g;
    const std::int64_t key = tile * kWarps + threadIdx.x / kWarp;
    if (key >= e.t) return;

    const std::int64_t at = e.key_row(batch, key, group);
    C k[E], v[E], dk[E] = {}, dv[E] = {};
    Lanes::load(a.k + at, d, k);
    Lanes::load(a.v + at, d, v);

    // The queries from the key up to `end` see it: starts do not fall.
    std::int64_t end = e.t;
    if (a.starts) {
        for (std::int64_t begin = key + 1; begin < end;) {
            const std::int64_t middle = (begin + end) / 2;
            if (a.first(batch, middle) <= key) {
                begin = middle + 1;
            } else {
                end = middle;
            }
        }
    }

    const std::int64_t heads = e.h / e.g;
    for (std::int64_t head = group * heads; head < (group + 1) * heads; ++head) {
        for (std::int64_t t = key; t < end; t += kTogether) {
            C q[kTogether][E], dout[kTogether][E], lse[kTogether], delta[kTogether];
#pragma unroll
            for (int j = 0; j < kTogether; ++j) {
                const std::int64_t row = t + j < end ? t + j : end - 1;
                Lanes::load(a.q + e.query_row(batch, row, head), d, q[j]);
                Lanes::load(a.dout + e.query_row(batch, row, head), d, dout[j]);
                lse[j] = a.lse[e.lse_at(batch, row, head)];
                delta[j] = a.delta[e.lse_at(batch, row, head)];
            }
#pragma unroll
            for (int j = 0; j < kTogether; ++j) {
                const C score = warp_sum(dot(q[j], k)), dp = warp_sum(dot(dout[j], v));
                const C p = exp(a.scale * score - lse[j]);
                const C ds = p * (dp - delta[j]) * a.scale;
                const bool exists = t + j < end;
#pragma unroll
                for (int i = 0; i < E; ++i) {
                    dv[i] += exists ? p * dout[j][i] : C(0);
                    dk[i] += exists ? ds * q[j][i] : C(0);
                }
            }
        }
    }
    Lanes::store(a.dk + at, d, dk);
    Lanes::store(a.dv + at, d, dv);
}

template <class T>
void launch(const AttentionGradRows<T>& a) {
    const AttentionExtents& e = a.e;
    dispatch_lanes<T>(e.d, [&](auto lanes) {
        using Lanes = decltype(lanes);
        const std::int64_t tiles = ceil_div(e.t, kWarps);
        if (const std::int64_t blocks = tiles * e.b * e.h; blocks > 0) {
            query_gradients_kernel<Lanes>
                <<<static_cast<unsigned>(blocks), kBlock, 0, stream()>>>(a);
            launched("attention_grad");
        }
        if (const std::int64_t blocks = tiles * e.b * e.g; blocks > 0) {
            key_gradients_kernel<Lanes><<<static_cast<unsigned>(blocks), kBlock, 0, stream()>>>(a);
            launched("attention_grad");
        }
    });
}

struct Scratch {  // offsets in bytes
    std::int64_t delta, dq, bytes;
};

Scratch cut_scratch(const AttentionExtents& e, std::size_t element_bytes, std::size_t sum_bytes) {
    ScratchCounter counter;
    Scratch s{};
    s.delta = counter.reserve(e.b * e.h * e.t * static_cast<std::int64_t>(sum_bytes));
    s.dq = counter.reserve(e.b * e.h * e.t * e.d * static_cast<std::int64_t>(element_bytes));
    s.bytes = counter.bytes();
    return s;
}

template <class T>
void attention_grad_rows(const KernelCall& call, const AttentionExtents& e, float scale,
                         const Scratch& scratch) {
    using C = compute_t<T>;
    // dq may take the place of do, which the second kernel still reads.
    const bool in_place = call.out[0].data == call.in[5].data;
    T* const dq = in_place ? reinterpret_cast<T*>(call.scratch + scratch.dq) : call.out[0].as<T>();
    launch(AttentionGradRows<T>{
        .q = call.in[0].as<T>(),
        .k = call.in[1].as<T>(),
        .v = call.in[2].as<T>(),
        .o = call.in[3].as<T>(),
        .dout = call.in[5].as<T>(),
        .lse = call.in[4].as<C>(),
        .starts = call.in.size() == 7 ? call.in[6].as<std::int32_t>() : nullptr,
        .dq = dq,
        .dk = call.out[1].as<T>(),
        .dv = call.out[2].as<T>(),
        .delta = reinterpret_cast<C*>(call.scratch + scratch.delta),
        .e = e,
        .scale = C(scale)});
    copy(dq, call.out[0].data, data_bytes(call.out[0].type));
}

}  // namespace

Refusal reject_attention_grad_rows(const NodeView& node) { return reject_long_heads(node); }

Prepared prepare_attention_grad_rows(const NodeView& node) {
    const AttentionExtents e = attention_extents(node);
    const float scale = std::get<AttentionGrad>(node.op).scale;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const Scratch scratch = cut_scratch(e, sizeof(T), sizeof(compute_t<T>));
        return Prepared{[e, scale, scratch](const KernelCall& call) {
                            attention_grad_rows<T>(call, e, scale, scratch);
                        },
                        scratch.bytes};
    });
}

}  // namespace octavo::cuda
