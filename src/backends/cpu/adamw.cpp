#include <array>
#include <cmath>

#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "backends/propagation.h"
#include "base/convert.h"
#include "base/expansion.h"
#include "base/scale_rule.h"
#include "base/stochastic.h"

namespace octavo::cpu {
namespace {

// What is the same for all elements of a step.
struct Step {
    float factor, decay, step, unbias, b1, b2, eps;

    // g is multiplied by `g_factor`.
    Step(const KernelCall& call, const AdamW& op, float g_factor)
        : factor(g_factor), b1(op.beta1), b2(op.beta2), eps(op.eps) {
        const float* schedule = call.in[5].as<float>();
        decay = 1.0f - schedule[0] * op.weight_decay;
        step = schedule[0] / schedule[1];
        unbias = 1.0f / std::sqrt(schedule[2]);
    }

    void operator()(const float* w, const float* g, const float* m, const float* v, float* w2,
                    float* m2, float* v2, std::int64_t n) const {
#pragma omp simd
        for (std::int64_t i = 0; i < n; ++i) {
            const float d = g[i] * factor;
            const float mean = b1 * m[i] + (1.0f - b1) * d;
            const float square = b2 * v[i] + (1.0f - b2) * d * d;
            w2[i] = w[i] * decay - step * mean / (std::sqrt(square) * unbias + eps);
            m2[i] = mean;
            v2[i] = square;
        }
    }
};

// w, m and v, as operands and as results.
constexpr std::size_t kOperandOf[] = {0, 2, 3};

void keep(const TensorRef& from, const TensorRef& to) {
    if (from.data == to.data) return;
    std::copy_n(from.as<std::byte>(), data_bytes(from.type), to.as<std::byte>());
    std::copy_n(from.scales(), scale_count(from.type), to.scales());
}

bool has_scale(const TensorRef& t) { return t.type.scaling == kPerTensor; }
bool is_expanded(const TensorRef& t) { return t.type.scaling == kExpanded; }
Expansion* groups_at(const TensorRef& t, std::int64_t element) {
    return static_cast<Expansion*>(t.scale) + element / kExpansionGroup;
}

constexpr std::int64_t kChunk = 512;  // elements decoded at a time, whole groups
static_assert(kChunk % kExpansionGroup == 0);
using Chunk = std::array<float, kChunk>;

// The values of w times `factor`, in y's format.
void write_copy(const TensorRef& w, float factor, const TensorRef& y) {
    const float scale = w.scale ? *w.scales() : 1.0f;
    const std::int64_t n = w.type.shape.elements(), chunks = (n + kChunk - 1) / kChunk;
    parallel_for(chunks, row_grain(kChunk), [&](std::int64_t begin, std::int64_t end) {
        Chunk x;
        for (std::int64_t at = begin * kChunk; at < std::min(n, end * kChunk); at += kChunk) {
            const std::int64_t count = std::min(kChunk, n - at);
            dequantise(element(w, at), w.type.dtype, scale, x.data(), Dtype::f32, count);
            quantise(x.data(), Dtype::f32, factor, element(y, at), y.type.dtype, count);
        }
    });
}

// What all kernels do around update(): skip the step, report the amax, copy the weight.
template <class Update>
void adamw(const KernelCall& call, const AdamW& op, Update&& update) {
    if (std::isfinite(*call.in[4].as<float>())) {
        update();
    } else {
        for (std::size_t k = 0; k < 3; ++k) keep(call.in[kOperandOf[k]], call.out[k]);
    }
    if (op.amax) {
        const TensorRef& w = call.out[0];
        *call.out[3].as<float>() = tensor_amax(w) * (w.scale ? *w.scales() : 1.0f);
    }
    if (!op.copy) return;
    const TensorRef &w = call.out[0], &y = call.out.back();
    if (op.copy->scaled) {
        *y.scales() = *call.in.back().as<float>();
        write_copy(w, 1.0f / *y.scales(), y);
    } else {
        // Exact: scales of weights are powers of two.
        write_copy(w, power_of_two(op.copy->exponent) / (w.scale ? *w.scales() : 1.0f), y);
    }
}

// ---- All states in f32 -------------------------------------------------------------------------

Refusal reject_f32(const NodeView& node) {
    if (std::get<AdamW>(node.op).sqrt_v) return "v is kept as its root";
    for (std::size_t i = 0; i < 4; ++i) {
        if (node.in[i].dtype != Dtype::f32 || node.in[i].scaling != kUnscaled) {
            return fmt::format("operand {} is not plain f32", i);
        }
    }
    return std::nullopt;
}

void update_f32(const KernelCall& call, const AdamW& op) {
    const Step step(call, op, *call.in[4].as<float>());
    const float *w = call.in[0].as<float>(), *g = call.in[1].as<float>();
    const float *m = call.in[2].as<float>(), *v = call.in[3].as<float>();
    float *w2 = call.out[0].as<float>(), *m2 = call.out[1].as<float>();
    float* v2 = call.out[2].as<float>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [=](std::int64_t i, std::int64_t end) {
                     step(w + i, g + i, m + i, v + i, w2 + i, m2 + i, v2 + i, end - i);
                 });
}

Prepared prepare_f32(const NodeView& node) {
    return {[op = std::get<AdamW>(node.op)](const KernelCall& call) {
        adamw(call, op, [&] { update_f32(call, op); });
    }};
}

// ---- States in any format ----------------------------------------------------------------------

class States {
  public:
    States(const KernelCall& call, const AdamW& op)
        : call_(call), op_(op), step_(call, op, 1), n_(call.in[0].type.shape.elements()) {
        // Results may lie where operands do: the old scales have to be kept.
        for (std::size_t i = 0; i < 4; ++i) {
            old_[i] = has_scale(call.in[i]) ? *call.in[i].scales() : 1;
        }
        old_[1] *= *call.in[4].as<float>();  // decoding clips
    }

    void run() {
        if (has_bounds(op_, call_.in.size())) {
            take_bounds();
        } else {
            choose_scales();
        }
        for_chunks([&](std::int64_t at, std::int64_t n, std::array<Chunk, 3>& x) {
            for (std::size_t k = 0; k < 3; ++k) encode(k, at, n, x[k].data());
        });
    }

  private:
    // visit(first element, elements, {w', m', v'}) for all chunks, on several threads.
    template <class Visit>
    void for_chunks(Visit&& visit) const {
        const std::int64_t chunks = (n_ + kChunk - 1) / kChunk;
        parallel_for(chunks, row_grain(kChunk), [&](std::int64_t begin, std::int64_t end) {
            std::array<Chunk, 4> in{};
            std::array<Chunk, 3> out{};
            for (std::int64_t c = begin; c < end; ++c) {
                const std::int64_t at = c * kChunk, n = std::min(kChunk, n_ - at);
                for (std::size_t i = 0; i < 4; ++i) {
                    const TensorRef& t = call_.in[i];
                    if (is_expanded(t)) {
                        contract(element(t, at), groups_at(t, at), n, in[i].data());
                        continue;
                    }
                    dequantise(element(t, at), t.type.dtype, old_[i], in[i].data(), Dtype::f32, n);
                }
                if (op_.sqrt_v) {
                    for (float& x : in[3]) x *= x;
                }
                step_(in[0].data(), in[1].data(), in[2].data(), in[3].data(), out[0].data(),
                      out[1].data(), out[2].data(), n);
                if (op_.sqrt_v) {
                    for (float& x : out[2]) x = std::sqrt(x);
                }
                visit(at, n, out);
            }
        });
    }

    void set_scale(std::size_t k, float scale) {
        next_[k] = scale;
        *call_.out[k].scales() = scale;
    }

    void take_bounds() {
        const float* bounds = call_.in[7].as<float>();
        if (has_scale(call_.out[0])) set_scale(0, old_[0]);
        for (std::size_t k = 1; k < 3; ++k) {
            if (has_scale(call_.out[k]))
                set_scale(k, moment_scale(bounds[k - 1], old_[kOperandOf[k]]));
        }
    }

    void choose_scales() {
        if (has_scale(call_.out[0]) && op_.keep_scale) set_scale(0, old_[0]);
        const bool w_scale = has_scale(call_.out[0]) && !op_.keep_scale;
        if (!w_scale && !has_scale(call_.out[1]) && !has_scale(call_.out[2])) return;
        std::array<SharedAmax, 3> tops;
        for_chunks([&](std::int64_t, std::int64_t n, const std::array<Chunk, 3>& x) {
            for (std::size_t k = 0; k < 3; ++k) tops[k].raise(amax(x[k].data(), Dtype::f32, n));
        });
        for (std::size_t k = 0; k < 3; ++k) {
            const TensorRef& t = call_.out[k];
            if (!has_scale(t) || (k == 0 && op_.keep_scale)) continue;
            const ScaleRule rule{t.type.dtype, k == 0 ? kMasterRounding : op_.scale_rounding, 0};
            set_scale(k, next_scale(rule, tops[k].value(), old_[kOperandOf[k]]));
        }
    }

    // x may be changed on the way.
    void encode(std::size_t k, std::int64_t at, std::int64_t n, float* x) const {
        const TensorRef& t = call_.out[k];
        if (is_expanded(t)) return expand(x, n, element(t, at), groups_at(t, at));
        if (t.type.dtype != Dtype::bf16 || !op_.stochastic) {
            float inverse = 1.0f / next_[k];
            const bool floors = k == 2 && op_.v_floor;
            if (k > 0 && has_scale(t) && (op_.stochastic_moments || floors)) {
                dispatch_float(t.type.dtype, [&](auto tag) {
                    using T = typename decltype(tag)::type;
                    if constexpr (requires { T::kFormat; }) prepare_cast<T>(k, at, n, inverse, x);
                });
                inverse = 1;
            }
            quantise(x, Dtype::f32, inverse, element(t, at), t.type.dtype, n);
            return;
        }
        bf16* y = t.as<bf16>() + at;
        const std::int32_t step = *call_.in[6].as<std::int32_t>();
        for (std::int64_t i = 0; i < n; i += 8) {
            const RoundingNoise noise(op_.stream, step, static_cast<std::uint64_t>((at + i) / 8));
            for (std::int64_t j = i; j < std::min(n, i + 8); ++j) {
                y[j] =
                    round_stochastically(x[j], noise(static_cast<int>(k), static_cast<int>(j - i)));
            }
        }
    }

    // What is left to the cast of a moment: to round to nearest what is not rounded yet.
    template <class T>
    void prepare_cast(std::size_t k, std::int64_t at, std::int64_t n, float inverse,
                      float* x) const {
        const float floor = k == 2 && op_.v_floor ? min_subnormal<T>() : 0.0f;
        for (std::int64_t i = 0; i < n; ++i) {
            const float y = x[i] * inverse;
            x[i] = x[i] > 0 && y < floor ? floor : y;
        }
        if (!op_.stochastic_moments) return;
        const StateNoise noise{op_.seed, static_cast<std::uint32_t>(op_.stream),
                               static_cast<std::uint32_t>(*call_.in[6].as<std::int32_t>())};
        for (std::int64_t i = 0; i < n; i += 4) {
            const PhiloxBlock words =
                noise(static_cast<std::uint32_t>(k - 1), static_cast<std::uint64_t>((at + i) / 4));
            for (std::int64_t j = i; j < std::min(n, i + 4); ++j) {
                x[j] = round_stochastically_to<T>(x[j], words[static_cast<std::size_t>(j - i)]);
            }
        }
    }

    const KernelCall& call_;
    const AdamW& op_;
    Step step_;
    std::int64_t n_;
    std::array<float, 4> old_{};
    std::array<float, 3> next_{1, 1, 1};
};

Prepared prepare_states(const NodeView& node) {
    return {[op = std::get<AdamW>(node.op)](const KernelCall& call) {
        adamw(call, op, [&] { States(call, op).run(); });
    }};
}

}  // namespace

void register_adamw(KernelRegistry& registry) {
    registry.add<AdamW>({"adamw_f32", reject_f32, prepare_f32});
    registry.add<AdamW>({"adamw_states", takes_all, prepare_states});
}

}  // namespace octavo::cpu
