// A warp takes a head of a token: its elements i and i + D / 2, which rotate together, are in one
// lane.
#include "backends/cuda/kernels.cuh"
#include "backends/cuda/rope_table.h"
#include "backends/decomposed.h"

namespace octavo::cuda {
namespace {

constexpr int kWarps = kBlock / kWarp;

template <class P>  // of the pools
struct Heads {
    const bf16* qkv;
    const std::int32_t *positions, *slots;
    const float *q_weight, *k_weight;  // null: no norms
    const float *k_scale, *v_scale;    // null: no codes
    const float *cosine, *sine;
    P *k_pool, *v_pool;
    bf16* q;
    int rows, heads, kv_heads;
    float eps;
};

// E elements of each half a lane.
template <int D, class P>
__global__ void __launch_bounds__(kBlock) qkv_to_cache_kernel(const __grid_constant__ Heads<P> a) {
    constexpr int kHalf = D / 2, E = kHalf / kWarp;
    const int all = a.heads + 2 * a.kv_heads;
    const int task = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
    const int row = task / all, head = task % all;
    if (row >= a.rows) return;
    const int at = static_cast<int>(threadIdx.x) % kWarp * E;
    const bool is_q = head < a.heads, is_v = head >= a.heads + a.kv_heads;
    const std::int32_t slot = a.slots[row];
    if (!is_q && slot < 0) return;

    const bf16* from = a.qkv + (std::int64_t{row} * all + head) * D + at;
    float x[2][E];
    load<E>(from, x[0]);
    load<E>(from + kHalf, x[1]);
    if (!is_v) {
        if (a.q_weight) {
            float squares = 0;
#pragma unroll
            for (int i = 0; i < E; ++i) squares += x[0][i] * x[0][i] + x[1][i] * x[1][i];
            const float rstd = 1.0f / sqrtf(warp_sum(squares) / float(D) + a.eps);
            const float* weight = (is_q ? a.q_weight : a.k_weight) + at;
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float w[E];
                load<E>(weight + h * kHalf, w);
#pragma unroll
                for (int i = 0; i < E; ++i) x[h][i] = x[h][i] * rstd * w[i];
                round_values<bf16>(x[h]);
            }
        }
        const std::int64_t position = a.positions[row] > 0 ? a.positions[row] : 0;
        float c[E], s[E];
        load<E>(a.cosine + position * kHalf + at, c);
        load<E>(a.sine + position * kHalf + at, s);
#pragma unroll
        for (int i = 0; i < E; ++i) {
            const float first = x[0][i];
            x[0][i] = first * c[i] - x[1][i] * s[i];
            x[1][i] = x[1][i] * c[i] + first * s[i];
        }
    }
    if (is_q) {
        bf16* to = a.q + (std::int64_t{row} * a.heads + head) * D + at;
        store<E>(to, x[0]);
        store<E>(to + kHalf, x[1]);
        return;
    }
    const int of = (head - a.heads) % a.kv_heads;
    P* to = (is_v ? a.v_pool : a.k_pool) + (std::int64_t{slot} * a.kv_heads + of) * D + at;
    if constexpr (std::is_same_v<P, e4m3>) {
        const float inverse = __frcp_rn(is_v ? *a.v_scale : *a.k_scale);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            round_values<bf16>(x[h]);
#pragma unroll
            for (int i = 0; i < E; ++i) x[h][i] *= inverse;
        }
    }
    store<E>(to, x[0]);
    store<E>(to + kHalf, x[1]);
}

template <class P>
Prepared prepare_into(const NodeView& node) {
    const auto op = std::get<QkvToCache>(node.op);
    const std::int64_t d = node.out[2].shape[3];
    return {[op, d, table = rope_table<float>(op.rope, op.rope.max_positions, d / 2)](
                const KernelCall& call) {
        for (const int i : {0, 1}) {
            copy(call.in[i].data, call.out[i].data, data_bytes(call.in[i].type));
        }
        const std::size_t norms = op.norm_eps ? 2 : 0;
        const auto vector = [&](std::size_t i, bool there) {
            return there ? call.in[i].as<float>() : nullptr;
        };
        const bool coded = std::is_same_v<P, e4m3>;
        const Heads<P> a{.qkv = call.in[2].as<bf16>(),
                         .positions = call.in[3].as<std::int32_t>(),
                         .slots = call.in[4].as<std::int32_t>(),
                         .q_weight = vector(5, norms > 0),
                         .k_weight = vector(6, norms > 0),
                         .k_scale = vector(5 + norms, coded),
                         .v_scale = vector(6 + norms, coded),
                         .cosine = table->cosine,
                         .sine = table->sine,
                         .k_pool = call.out[0].as<P>(),
                         .v_pool = call.out[1].as<P>(),
                         .q = call.out[2].as<bf16>(),
                         .rows = static_cast<int>(call.in[3].type.shape.elements()),
                         .heads = static_cast<int>(op.heads),
                         .kv_heads = static_cast<int>(op.kv_heads),
                         .eps = op.norm_eps.value_or(0)};
        if (a.rows == 0) return;
        const std::int64_t tasks = std::int64_t{a.rows} * (a.heads + 2 * a.kv_heads);
        const auto blocks = static_cast<unsigned>(ceil_div(tasks, kWarps));
        if (d == 64) {
            qkv_to_cache_kernel<64><<<blocks, kBlock, 0, stream()>>>(a);
        } else {
            qkv_to_cache_kernel<128><<<blocks, kBlock, 0, stream()>>>(a);
        }
        launched("qkv_to_cache");
    }};
}

Refusal reject(const NodeView& node) {
    const std::int64_t d = node.out[2].shape[3];
    if (node.in[2].dtype != Dtype::bf16) return fmt::format("{}", name(node.in[2].dtype));
    if (d != 64 && d != 128) return fmt::format("heads of {} elements, not 64 or 128", d);
    return std::nullopt;
}

Prepared prepare(const NodeView& node) {
    return node.out[0].dtype == Dtype::e4m3 ? prepare_into<e4m3>(node) : prepare_into<bf16>(node);
}

}  // namespace

void register_qkv_to_cache(KernelRegistry& registry) {
    registry.add<QkvToCache>({"heads", reject, prepare});
    registry.add<QkvToCache>({"decomposed", takes_all, [](const NodeView& node) {
                                  return prepare_decomposed(kernel_registry(), node);
                              }});
}

}  // namespace octavo::cuda
