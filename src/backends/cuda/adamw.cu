#include "backends/cuda/scaling.cuh"
#include "backends/propagation.h"
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

// Elements as they lie in memory. All operands are on their way before the first is decoded: a
// switch over the formats in between would wait for each in turn.
template <int N>
struct Raw {
    std::uint32_t words[N];  // room for N elements of any format
};

template <class Code, int N>
__device__ inline void fetch_codes(const void* from, std::int64_t i, Raw<N>& to) {
    const Packet<Code, N> codes = read_packet<N>(static_cast<const Code*>(from) + i);
    memcpy(to.words, &codes, sizeof(codes));
}

template <int N>
__device__ inline Raw<N> fetch(const State& s, std::int64_t i) {
    Raw<N> raw;
    switch (s.dtype) {
        case Dtype::f32:
            fetch_codes<std::uint32_t>(s.data, i, raw);
            break;
        case Dtype::bf16:
        case Dtype::f16:
            fetch_codes<std::uint16_t>(s.data, i, raw);
            break;
        default:
            fetch_codes<std::uint8_t>(s.data, i, raw);
    }
    return raw;
}

// Scales while a step runs: results may lie where operands do, and new scales where old ones do.
struct Scales {
    float old[4];
    float next[3];
    float top[3];  // amaxes of the results
};

// kOptions: moments have options. Without, none of their code may cost registers.
template <bool kOptions>
struct Step {
    State in[4] = {}, out[3] = {};
    const float *factor, *schedule;
    const std::int32_t* step;
    Scales* scales = nullptr;           // none: no state has one
    float* amax = nullptr;              // none: not asked for
    const float* bounds = nullptr;      // of m' and v'; none: their scales follow their amaxes
    State copy = {};                    // of w'; none: not asked for
    const float* copy_scale = nullptr;  // none: of the data of w', times copy_factor
    float copy_factor = 1;
    AdamW op;

    __device__ bool roots() const { return kOptions && op.sqrt_v; }
    __device__ float old_scale(int i) const { return scales ? scales->old[i] : 1.0f; }
    __device__ float next_scale(int k) const { return scales ? scales->next[k] : 1.0f; }
    __device__ bool reads_result() const { return amax || copy.data; }

    template <int N>
    __device__ void decode(int operand, const Raw<N>& raw, float scale, float (&x)[N]) const {
        typed(in[operand], [&](const auto* p) {
            using T = std::remove_cvref_t<decltype(*p)>;
            Packet<T, N> packet;
            memcpy(&packet, raw.words, sizeof(packet));
#pragma unroll
            for (int k = 0; k < N; ++k) x[k] = widen(packet.x[k]);
        });
#pragma unroll
        for (int k = 0; k < N; ++k) x[k] *= scale;
    }

    // {w', m', v'}, not rounded; w' only where it is wanted.
    template <int N>
    __device__ void compute(std::int64_t i, float clip, bool with_w, float (&x)[3][N]) const {
        const Raw<N> g = fetch<N>(in[1], i), m = fetch<N>(in[2], i), v = fetch<N>(in[3], i);
        Raw<N> w;
        if (with_w) w = fetch<N>(in[0], i);
        float d[N];
        decode(1, g, old_scale(1) * clip, d);
        decode(2, m, old_scale(2), x[1]);
        decode(3, v, old_scale(3), x[2]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (roots()) x[2][k] *= x[2][k];
            x[1][k] = op.beta1 * x[1][k] + (1.0f - op.beta1) * d[k];
            x[2][k] = op.beta2 * x[2][k] + (1.0f - op.beta2) * d[k] * d[k];
        }
        if (with_w) update<N>(w, x);
        if (!roots()) return;
#pragma unroll
        for (int k = 0; k < N; ++k) x[2][k] = sqrtf(x[2][k]);
    }

    // w' from the m' and v' in x.
    template <int N>
    __device__ void update(const Raw<N>& w, float (&x)[3][N]) const {
        decode(0, w, old_scale(0), x[0]);
        const float decay = 1.0f - schedule[0] * op.weight_decay;
        const float rate = schedule[0] / schedule[1];
        const float unbias = 1.0f / sqrtf(schedule[2]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            // Good to two units in the last place, of a step that is small beside w.
            const float step_length = rate * x[1][k];
            x[0][k] = x[0][k] * decay - __fdividef(step_length, root(x[2][k]) * unbias + op.eps);
        }
    }

    static __device__ float root(float x) {
        float y;
        asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
        return y;
    }

    // x under its scale, of a moment with its options: what is left to the cast is to round to
    // nearest what is not rounded yet.
    template <class T, int N>
    __device__ void prepare_cast(int k, std::int64_t i, float inverse, float (&x)[N]) const {
        const bool floors = k == 2 && op.v_floor && out[k].scale;
        const float floor = floors ? min_subnormal<T>() : 0.0f;
        const StateNoise noise{op.seed, static_cast<std::uint32_t>(op.stream),
                               static_cast<std::uint32_t>(*step)};
        PhiloxBlock words{};
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const float y = x[j] * inverse;
            x[j] = x[j] > 0 && y < floor ? floor : y;
            if (!op.stochastic_moments || k == 0 || !out[k].scale) continue;
            if (j % 4 == 0) {
                words = noise(static_cast<std::uint32_t>(k - 1),
                              static_cast<std::uint64_t>((i + j) / 4));
            }
            x[j] = round_stochastically_to<T>(x[j], words[N == 1 ? i % 4 : j % 4]);
        }
    }

    // Writes result k, rounded stochastically where there is noise for it, and leaves in x what was
    // stored, without its scale, if somebody asked for it.
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
        const float inverse = 1.0f / next_scale(k);
        if constexpr (!kOptions) {
#pragma unroll
            for (int j = 0; j < N; ++j) x[j] *= inverse;
        }
        typed(out[k], [&](auto* p) {
            using T = std::remove_pointer_t<decltype(p)>;
            if constexpr (kOptions && requires { T::kFormat; }) {
                prepare_cast<T>(k, i, inverse, x);
            } else if constexpr (kOptions) {
#pragma unroll
                for (int j = 0; j < N; ++j) x[j] *= inverse;
            }
            store<N>(p + i, x);
            if (k != 0 || !reads_result()) return;
#pragma unroll
            for (int j = 0; j < N; ++j) x[j] = widen(round_to<T>(x[j]));
        });
    }

    // Result k stays what it was; in x what that is, without its scale.
    template <int N>
    __device__ void keep_state(int k, std::int64_t i, float (&x)[N]) const {
        const State& from = in[operand_of(k)];
        if (from.data != out[k].data) {
            typed(out[k], [&](auto* p) {
                using T = std::remove_pointer_t<decltype(p)>;
                write_packet<N>(p + i, read_packet<N>(static_cast<const T*>(from.data) + i));
            });
        }
        decode(operand_of(k), fetch<N>(from, i), 1.0f, x);
    }

    // What others want of the w' that was stored, x without its scale: its magnitude and its copy.
    template <int N>
    __device__ void pass_on(std::int64_t i, float (&x)[N], std::uint32_t& top) const {
        const float scale = next_scale(0);  // a power of two: what follows is exact
#pragma unroll
        for (int j = 0; j < N; ++j) {
            x[j] *= scale;
            top = max(top, magnitude_bits(x[j]));
        }
        if (!copy.data) return;
        const float factor = copy_scale ? 1.0f / *copy_scale : copy_factor / scale;
#pragma unroll
        for (int j = 0; j < N; ++j) x[j] *= factor;
        switch (copy.dtype) {
            case Dtype::bf16:
                return store<N>(static_cast<bf16*>(copy.data) + i, x);
            case Dtype::f16:
                return store<N>(static_cast<f16*>(copy.data) + i, x);
            case Dtype::e4m3:
                return store<N>(static_cast<e4m3*>(copy.data) + i, x);
            default:
                return store<N>(static_cast<e5m2*>(copy.data) + i, x);
        }
    }
};

constexpr int kAmaxBlocks = 4;  // of a multiprocessor, all resident

template <bool kOptions>
__global__ void __launch_bounds__(kBlock, kAmaxBlocks)
    amaxes_kernel(std::int64_t n, const __grid_constant__ Step<kOptions> step) {
    const float clip = *step.factor;
    if (!isfinite(clip)) return;
    const bool with_w = step.out[0].scale && !step.op.keep_scale;
    std::uint32_t top[3] = {};
    for_packets(n, [&]<int N>(std::int64_t i) {
        float x[3][N] = {};
        step.compute(i, clip, with_w, x);
#pragma unroll
        for (int k = 0; k < 3; ++k) {
#pragma unroll
            for (int j = 0; j < N; ++j) top[k] = max(top[k], magnitude_bits(x[k][j]));
        }
    });
    for (int k = 0; k < 3; ++k) raise_to_block_max(&step.scales->top[k], top[k]);
}

template <bool kOptions>
__global__ void start_kernel(const __grid_constant__ Step<kOptions> step) {
    for (int i = 0; i < 4; ++i) step.scales->old[i] = step.in[i].scale ? *step.in[i].scale : 1.0f;
    for (int k = 0; k < 3; ++k) step.scales->top[k] = 0;
}

template <bool kOptions>
__global__ void scales_kernel(const __grid_constant__ Step<kOptions> step) {
    const bool skip = !isfinite(*step.factor);
    for (int k = 0; k < 3; ++k) {
        const State& s = step.out[k];
        const float old = step.scales->old[operand_of(k)];
        step.scales->next[k] = 1.0f;
        if (!s.scale) continue;
        if (k == 0 && step.op.keep_scale) {
            step.scales->next[k] = *s.scale = old;
            continue;
        }
        if (k > 0 && step.bounds) {
            step.scales->next[k] = *s.scale = skip ? old : moment_scale(step.bounds[k - 1], old);
            continue;
        }
        const ScaleRule rule{s.dtype, k == 0 ? kMasterRounding : step.op.scale_rounding, 0};
        const float next = skip ? old : next_scale(rule, step.scales->top[k], old);
        step.scales->next[k] = next;
        *s.scale = next;
    }
}

template <bool kOptions>
__global__ void __launch_bounds__(kBlock, 3)
    adamw_kernel(std::int64_t n, const __grid_constant__ Step<kOptions> step) {
    const float clip = *step.factor;
    const bool skip = !isfinite(clip);
    std::uint32_t top = 0;
    for_packets(n, [&]<int N>(std::int64_t i) {
        float x[3][N];
        if (skip) {
#pragma unroll
            for (int k = 0; k < 3; ++k) step.keep_state(k, i, x[k]);
        } else {
            step.compute(i, clip, true, x);
            if (step.op.stochastic) {
                const RoundingNoise noise(step.op.stream, *step.step,
                                          static_cast<std::uint64_t>(i / kPacket));
#pragma unroll
                for (int k = 0; k < 3; ++k) step.store_state(k, i, &noise, x[k]);
            } else {
#pragma unroll
                for (int k = 0; k < 3; ++k) step.store_state(k, i, nullptr, x[k]);
            }
        }
        if (step.reads_result()) step.pass_on(i, x[0], top);
    });
    if (step.amax) raise_to_block_max(step.amax, top);
}

template <bool kOptions>
void adamw(const KernelCall& call, const AdamW& op) {
    Step<kOptions> step{.factor = call.in[4].as<float>(),
                        .schedule = call.in[5].as<float>(),
                        .step = call.in[6].as<std::int32_t>(),
                        .op = op};
    for (int i = 0; i < 4; ++i) step.in[i] = state(call.in[i]);
    for (int k = 0; k < 3; ++k) step.out[k] = state(call.out[k]);
    if (op.amax) {
        step.amax = call.out[3].as<float>();
        clear(step.amax, sizeof(float));
    }
    if (op.copy) {
        const TensorRef& copied = call.out.back();
        step.copy = state(copied);
        step.copy_factor = power_of_two(op.copy->exponent);
        if (op.copy->scaled) {
            step.copy_scale = call.in.back().as<float>();
            copy(step.copy_scale, copied.scale, sizeof(float));
        }
    }
    const std::int64_t n = call.in[0].type.shape.elements();
    const auto scaled = [](const State& s) { return s.scale != nullptr; };
    if (std::ranges::any_of(step.in, scaled)) {
        step.scales = reinterpret_cast<Scales*>(call.scratch);
        start_kernel<<<1, 1, 0, stream()>>>(step);
        if (has_bounds(op, call.in.size())) step.bounds = call.in[7].as<float>();
        const bool measured = !step.bounds && (scaled(step.out[1]) || scaled(step.out[2]));
        if (measured || (scaled(step.out[0]) && !op.keep_scale)) {
            const std::int64_t resident = std::int64_t{device().multiprocessors()} * kAmaxBlocks;
            amaxes_kernel<<<packet_blocks(n, resident), kBlock, 0, stream()>>>(n, step);
        }
        scales_kernel<<<1, 1, 0, stream()>>>(step);
    }
    // As many blocks as there are packets: with one round each, the last ones do not straggle.
    adamw_kernel<<<packet_blocks(n, std::int64_t{1} << 30), kBlock, 0, stream()>>>(n, step);
    launched("adamw");
}

Refusal reject(const NodeView& node) {
    const auto& copy = std::get<AdamW>(node.op).copy;
    const bool takes = !copy || size_of(copy->to) == 2 || is_fp8(copy->to);
    return takes ? std::nullopt : Refusal("a copy in " + std::string(name(copy->to)));
}

Prepared prepare(const NodeView& node) {
    const AdamW op = std::get<AdamW>(node.op);
    const bool options = op.stochastic_moments || op.sqrt_v || op.v_floor;
    return {[op, options](const KernelCall& call) {
                if (options) return adamw<true>(call, op);
                adamw<false>(call, op);
            },
            sizeof(Scales)};
}

}  // namespace

void register_adamw(KernelRegistry& registry) { registry.add<AdamW>({"adamw", reject, prepare}); }

}  // namespace octavo::cuda
