// What AdamW does with a packet of elements: fetches, decodes, updates, rounds and stores them.
#pragma once

#include "backends/cuda/scaling.cuh"
#include "base/expansion.h"
#include "base/stochastic.h"

namespace octavo::cuda::adamw {

// The operand that result k is the next value of: w, m or v.
constexpr int operand_of(int k) { return k == 0 ? 0 : k + 1; }

struct State {
    void* data;
    float* scale;       // null: none
    Expansion* groups;  // null: not expanded
    Dtype dtype;
};

inline State state(const TensorRef& t) {
    const bool expanded = t.type.scaling == kExpanded;
    return {t.data, expanded ? nullptr : t.scales(),
            expanded ? static_cast<Expansion*>(t.scale) : nullptr, t.type.dtype};
}

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

// What moments may be. Code of those that are not may cost no registers.
enum class Moments { plain, options, expanded };

template <Moments kMoments>
struct Step {
    static constexpr bool kOptions = kMoments != Moments::plain;
    static constexpr bool kExpands = kMoments == Moments::expanded;

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
    __device__ void decode(int operand, std::int64_t i, const Raw<N>& raw, float scale,
                           float (&x)[N]) const {
        typed(in[operand], [&](const auto* p) {
            using T = std::remove_cvref_t<decltype(*p)>;
            Packet<T, N> packet;
            memcpy(&packet, raw.words, sizeof(packet));
#pragma unroll
            for (int k = 0; k < N; ++k) x[k] = widen(packet.x[k]);
        });
        if (kExpands && in[operand].groups) {
            const Contractor contractor(in[operand].groups[i / kExpansionGroup]);
#pragma unroll
            for (int k = 0; k < N; ++k) x[k] = contractor(x[k]);
            return;
        }
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
        decode(1, i, g, old_scale(1) * clip, d);
        decode(2, i, m, old_scale(2), x[1]);
        decode(3, i, v, old_scale(3), x[2]);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (roots()) x[2][k] *= x[2][k];
            x[1][k] = op.beta1 * x[1][k] + (1.0f - op.beta1) * d[k];
            x[2][k] = op.beta2 * x[2][k] + (1.0f - op.beta2) * d[k] * d[k];
        }
        if (with_w) update<N>(i, w, x);
        if (!roots()) return;
#pragma unroll
        for (int k = 0; k < N; ++k) x[2][k] = sqrtf(x[2][k]);
    }

    // w' from the m' and v' in x.
    template <int N>
    __device__ void update(std::int64_t i, const Raw<N>& w, float (&x)[3][N]) const {
        decode(0, i, w, old_scale(0), x[0]);
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
    // stored, without its scale, if somebody asked for it. Expanded ones are in x as their codes
    // are cast from.
    template <int N>
    __device__ void store_state(int k, std::int64_t i, const RoundingNoise* noise,
                                float (&x)[N]) const {
        if (kExpands && out[k].groups) return store<N>(static_cast<e4m3*>(out[k].data) + i, x);
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
            if (kExpands && out[k].groups && i % kExpansionGroup == 0) {
                out[k].groups[i / kExpansionGroup] = from.groups[i / kExpansionGroup];
            }
        }
        decode(operand_of(k), i, fetch<N>(from, i), 1.0f, x);
    }

    // All of them: what `x` is now, or with `skip` what they were.
    template <int N>
    __device__ void store_states(std::int64_t i, bool skip, float (&x)[3][N]) const {
        if (skip) {
#pragma unroll
            for (int k = 0; k < 3; ++k) keep_state(k, i, x[k]);
        } else if (op.stochastic) {
            const RoundingNoise noise(op.stream, *step, static_cast<std::uint64_t>(i / kPacket));
#pragma unroll
            for (int k = 0; k < 3; ++k) store_state(k, i, &noise, x[k]);
        } else {
#pragma unroll
            for (int k = 0; k < 3; ++k) store_state(k, i, nullptr, x[k]);
        }
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

}  // namespace octavo::cuda::adamw
