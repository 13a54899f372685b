#include <limits>

#include "backends/cuda/attention_rows.cuh"
#include "backends/cuda/paged_attention.h"

namespace octavo::cuda {
namespace {

// C: of the arithmetic.
template <class T, class P, class C>
struct PagedRows {
    const T* q;
    const P *k, *v;
    const std::int32_t *positions, *sequences, *tables;
    const float *k_scale, *v_scale, *q_scale;  // null where there are none
    T* o;
    std::int64_t rows, heads, groups, table, block;
    int d;
    C scale;
};

template <class Lanes, bool kFp8, class T, class P, class C>
__global__ void __launch_bounds__(kBlock) paged_rows_kernel(PagedRows<T, P, C> a) {
    constexpr int E = Lanes::E;
    constexpr C kLift = kFp8 ? 256 : 1;  // of probabilities
    const std::int64_t task = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
    const std::int64_t row = task / a.heads, head = task % a.heads;
    if (row >= a.rows) return;
    const std::int64_t most = a.table * a.block, position = a.positions[row];
    const std::int64_t visible = position < 0 ? 0 : position + 1 < most ? position + 1 : most;
    const std::int32_t* blocks = a.tables + a.sequences[row] * a.table;
    const std::int64_t group = head / (a.heads / a.groups);
    C unit = static_cast<C>(a.k_scale ? *a.k_scale : 1);  // of scores
    const C v_scale = static_cast<C>(a.v_scale ? *a.v_scale : 1);

    C q[E], sums[E] = {};
    Lanes::load(a.q + task * a.d, a.d, q);
    if constexpr (kFp8) {
        const float inverse = __frcp_rn(*a.q_scale);
        unit *= *a.q_scale;
#pragma unroll
        for (int i = 0; i < E; ++i) q[i] *= inverse;
        round_values<e4m3>(q);
    } else {
        unit *= a.scale;
#pragma unroll
        for (int i = 0; i < E; ++i) q[i] *= unit;
    }
    C top = std::numeric_limits<C>::lowest(), sum = 0;
    for (std::int64_t s = 0; s < visible; s += kTogether) {
        C keys[kTogether][E], values[kTogether][E], score[kTogether];
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const std::int64_t t = s + j < visible ? s + j : visible - 1;
            const std::int64_t slot = blocks[t / a.block] * a.block + t % a.block;
            const std::int64_t at = (slot * a.groups + group) * a.d;
            Lanes::load(a.k + at, a.d, keys[j]);
            Lanes::load(a.v + at, a.d, values[j]);
        }
        C higher = top;
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            score[j] = warp_sum(dot(q, keys[j]));
            if constexpr (kFp8) score[j] = score[j] * unit * a.scale;
            higher = fmax(higher, score[j]);
        }
        const C factor = exp(top - higher);
        sum *= factor;
#pragma unroll
        for (int i = 0; i < E; ++i) sums[i] *= factor;
        top = higher;
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
            const C p = s + j < visible ? exp(score[j] - higher) : C(0);
            sum += p;
            C weight = p;
            if constexpr (kFp8) weight = widen(round_to<e4m3>(kLift * p));
#pragma unroll
            for (int i = 0; i < E; ++i) sums[i] += weight * values[j][i];
        }
    }
    const C factor = visible > 0 ? v_scale / (kLift * sum) : C(0);
#pragma unroll
    for (int i = 0; i < E; ++i) sums[i] *= factor;
    // o may be q: this row of it has been read.
    Lanes::store(a.o + task * a.d, a.d, sums);
}

template <class T, class P, bool kFp8 = false>
Prepared prepare_over(const NodeView& node) {
    using C = std::conditional_t<kFp8, float, compute_t<T>>;
    const PagedAttention op = std::get<PagedAttention>(node.op);
    return {[op](const KernelCall& call) {
        const Shape &q = call.in[0].type.shape, &pool = call.in[1].type.shape;
        const auto scale_at = [&](std::size_t i) {
            return i < call.in.size() ? call.in[i].as<float>() : nullptr;
        };
        const PagedRows<T, P, C> a{.q = call.in[0].as<T>(),
                                   .k = call.in[1].as<P>(),
                                   .v = call.in[2].as<P>(),
                                   .positions = call.in[3].as<std::int32_t>(),
                                   .sequences = call.in[4].as<std::int32_t>(),
                                   .tables = call.in[5].as<std::int32_t>(),
                                   .k_scale = scale_at(6),
                                   .v_scale = scale_at(7),
                                   .q_scale = scale_at(8),
                                   .o = call.out[0].as<T>(),
                                   .rows = q[0] * q[1],
                                   .heads = q[2],
                                   .groups = pool[1],
                                   .table = call.in[5].type.shape[1],
                                   .block = op.block,
                                   .d = static_cast<int>(q[3]),
                                   .scale = static_cast<C>(op.scale)};
        if (a.rows * a.heads == 0) return;
        dispatch_lanes<T>(a.d, [&](auto lanes) {
            using Lanes = decltype(lanes);
            const std::int64_t blocks = ceil_div(a.rows * a.heads, kWarps);
            paged_rows_kernel<Lanes, kFp8>
                <<<static_cast<unsigned>(blocks), kBlock, 0, stream()>>>(a);
        });
        launched("paged_attention");
    }};
}

}  // namespace

Refusal reject_paged_rows(const NodeView& node) { return reject_long_heads(node); }

Prepared prepare_paged_rows(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (node.in.size() == 9) return prepare_over<T, e4m3, true>(node);
        return node.in.size() == 8 ? prepare_over<T, e4m3>(node) : prepare_over<T, T>(node);
    });
}

}  // namespace octavo::cuda
