#include "backends/cuda/scaling.cuh"
#include "base/stochastic.h"

namespace octavo::cuda {
namespace {

// The operand that result k is the next value of: w, m or v.
__host__ __device__ constexpr int operand_of(int k) { return k == 0 ? 0 : k + 1; }

struct State {
    void* data;
    float* scale;  // null: none
    Dtype dtype;
};

State state(const TensorRef& t) { return {t.data, t.scales(), t.type.dtype}; }

// f(pointer) with the element type.
template <class F>
__device__ inline void typed(const State& s, F&& f) {
    switch (s.dtype) {
        case Dtype::f32:
            return f(static_cast<float*>(s.data));
        case Dtype::bf16:
            return f(static_cast<bf16*>(s.data));
        case Dtype::f16:
            return f(static_cast<f16*>(s.data));
        case Dtype::e4m3:
            return f(static_cast<e4m3*>(s.data));
        default:
            return f(static_cast<e5m2*>(s.data));
    }
}

// Scales while a step runs: results may lie where operands do, and new scales where old ones do.
struct Scales {
    float old[4];
    float next[3];
    float top[3];  // amaxes of the results
};

struct Step {
    State in[4] = {}, out[3] = {};
    const float *factor, *schedule;
    const std::int32_t* step;
    Scales* scales = nullptr;  // none: no state has one
    float* amax = nullptr;     // none: not asked for
    AdamW op;

    __device__ float old_scale(int i) const { return scales ? scales->old[i] : 1.0f; }
    __device__ float next_scale(int k) const { return scales ? scales->next[k] : 1.0f; }

    template <int N>
    __device__ void load_state(int operand, std::int64_t i, float (&x)[N]) const {
        typed(in[operand], [&](const auto* p) { load<N>(p + i, x); });
        const float scale = old_scale(operand);
#pragma unroll
        for (int k = 0; k < N; ++k) x[k] *= scale;
    }

    // The next m and v, not rounded.
    template <int N>
    __device__ void moments(std::int64_t i, float clip, float (&m)[N], float (&v)[N]) const {
        float d[N];
        load_state(1, i, d);
        load_state(2, i, m);
        load_state(3, i, v);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const float scaled = d[k] * clip;
            m[k] = op.beta1 * m[k] + (1.0f - op.beta1) * scaled;
            v[k] = op.beta2 * v[k] + (1.0f - op.beta2) * scaled * scaled;
        }
    }

    // The next w from them.
    template <int N>
    __device__ void weights(std::int64_t i, const float (&m)[N], const float (&v)[N],
                            float (&w)[N]) const {
        load_state(0, i, w);
        const float decay = 1.0f - schedule[0] * op.weight_decay;
        const float rate = schedule[0] / schedule[1];
        const float unbias = 1.0f / sqrtf(schedule[2]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            // Good to two units in the last place, of a step that is small beside w.
            w[k] = w[k] * decay - __fdividef(rate * m[k], root(v[k]) * unbias + op.eps);
        }
    }

    static __device__ float root(float x) {
        float y;
        asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
        return y;
    }

    // Writes result k, rounded stochastically where there is noise for it, and leaves in x what was
    // stored, if somebody asked for it.
    template <int N>
    __device__ void store_state(int k, std::int64_t i, const RoundingNoise* noise,
                                float (&x)[N]) const {
        if (out[k].dtype == Dtype::bf16 && noise) {
#pragma unroll
            for (int j = 0; j < N; ++j) {
                const int at = N == 1 ? static_cast<int>(i % kPacket) : j;
                x[j] = widen(round_stochastically(x[j], (*noise)(k, at)));
            }
            store<N>(static_cast<bf16*>(out[k].data) + i, x);
            return;
        }
        const float scale = next_scale(k), inverse = 1.0f / scale;
#pragma unroll
        for (int j = 0; j < N; ++j) x[j] *= inverse;
        typed(out[k], [&](auto* p) {
            using T = std::remove_pointer_t<decltype(p)>;
            store<N>(p + i, x);
            if (k != 0 || !amax) return;
#pragma unroll
            for (int j = 0; j < N; ++j) x[j] = widen(round_to<T>(x[j])) * scale;
        });
    }

    // Result k stays what it was; in x what that is.
    template <int N>
    __device__ void keep_state(int k, std::int64_t i, float (&x)[N]) const {
        const State& from = in[operand_of(k)];
        if (from.data != out[k].data) {
            typed(out[k], [&](auto* p) {
                using T = std::remove_pointer_t<decltype(p)>;
                *reinterpret_cast<Packet<T, N>*>(p + i) =
                    *reinterpret_cast<const Packet<T, N>*>(static_cast<const T*>(from.data) + i);
            });
        }
        load_state(operand_of(k), i, x);
    }
};

__global__ void __launch_bounds__(kBlock)
    amaxes_kernel(std::int64_t n, const __grid_constant__ Step step) {
    const float clip = *step.factor;
    if (!isfinite(clip)) return;
    const bool with_w = step.out[0].scale != nullptr;
    std::uint32_t top[3] = {};
    for_packets(n, [&]<int N>(std::int64_t i) {
        float x[3][N] = {};
        step.moments(i, clip, x[1], x[2]);
        if (with_w) step.weights(i, x[1], x[2], x[0]);
#pragma unroll
        for (int k = 0; k < 3; ++k) {
#pragma unroll
            for (int j = 0; j < N; ++j) top[k] = max(top[k], magnitude_bits(x[k][j]));
        }
    });
    for (int k = 0; k < 3; ++k) raise_to_block_max(&step.scales->top[k], top[k]);
}

__global__ void start_kernel(const __grid_constant__ Step step) {
    for (int i = 0; i < 4; ++i) step.scales->old[i] = step.in[i].scale ? *step.in[i].scale : 1.0f;
    for (int k = 0; k < 3; ++k) step.scales->top[k] = 0;
}

__global__ void scales_kernel(const __grid_constant__ Step step) {
    const bool skip = !isfinite(*step.factor);
    for (int k = 0; k < 3; ++k) {
        const State& s = step.out[k];
        const float old = step.scales->old[operand_of(k)];
        step.scales->next[k] = 1.0f;
        if (!s.scale) continue;
        const ScaleRule rule{s.dtype, step.op.scale_rounding, 0};
        const float next = skip ? old : next_scale(rule, step.scales->top[k], old);
        step.scales->next[k] = next;
        *s.scale = next;
    }
}

__global__ void __launch_bounds__(kBlock)
    adamw_kernel(std::int64_t n, const __grid_constant__ Step step) {
    const float clip = *step.factor;
    const bool skip = !isfinite(clip);
    std::uint32_t top = 0;
    for_packets(n, [&]<int N>(std::int64_t i) {
        float x[3][N];
        if (skip) {
            for (int k = 0; k < 3; ++k) step.keep_state(k, i, x[k]);
        } else {
            step.moments(i, clip, x[1], x[2]);
            step.weights(i, x[1], x[2], x[0]);
            if (step.op.stochastic) {
                const RoundingNoise noise(step.op.stream, *step.step,
                                          static_cast<std::uint64_t>(i / kPacket));
                for (int k = 0; k < 3; ++k) step.store_state(k, i, &noise, x[k]);
            } else {
                for (int k = 0; k < 3; ++k) step.store_state(k, i, nullptr, x[k]);
            }
        }
        if (!step.amax) return;
#pragma unroll
        for (int j = 0; j < N; ++j) top = max(top, magnitude_bits(x[0][j]));
    });
    if (step.amax) raise_to_block_max(step.amax, top);
}

void adamw(const KernelCall& call, const AdamW& op) {
    Step step{.factor = call.in[4].as<float>(),
              .schedule = call.in[5].as<float>(),
              .step = call.in[6].as<std::int32_t>(),
              .op = op};
    for (int i = 0; i < 4; ++i) step.in[i] = state(call.in[i]);
    for (int k = 0; k < 3; ++k) step.out[k] = state(call.out[k]);
    if (op.amax) {
        step.amax = call.out[3].as<float>();
        clear(step.amax, sizeof(float));
    }
    const std::int64_t n = call.in[0].type.shape.elements();
    const unsigned blocks = packet_blocks(n, std::int64_t{device().multiprocessors()} * 8);
    const auto scaled = [](const State& s) { return s.scale != nullptr; };
    if (std::ranges::any_of(step.in, scaled)) {
        step.scales = reinterpret_cast<Scales*>(call.scratch);
        start_kernel<<<1, 1, 0, stream()>>>(step);
        amaxes_kernel<<<blocks, kBlock, 0, stream()>>>(n, step);
        scales_kernel<<<1, 1, 0, stream()>>>(step);
    }
    adamw_kernel<<<blocks, kBlock, 0, stream()>>>(n, step);
    launched("adamw");
}

Prepared prepare(const NodeView& node) {
    return {[op = std::get<AdamW>(node.op)](const KernelCall& call) { adamw(call, op); },
            sizeof(Scales)};
}

}  // namespace

void register_adamw(KernelRegistry& registry) {
    registry.add<AdamW>({"adamw", takes_all, prepare});
}

}  // namespace octavo::cuda
