#include <array>

#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "backends/cpu/transpose.h"
#include "base/convert.h"
#include "base/dtype_traits.h"
#include "base/stochastic.h"

namespace octavo::cpu {
namespace {

// f(first element, values) for chunks of n elements; a chunk begins at a multiple of 4.
template <class F>
void over_chunks(std::int64_t n, F&& f) {
    constexpr std::int64_t kChunk = 512;
    parallel_for(
        (n + kChunk - 1) / kChunk, row_grain(kChunk), [&](std::int64_t begin, std::int64_t end) {
            std::array<float, kChunk> values;
            for (std::int64_t at = begin * kChunk; at < std::min(n, end * kChunk); at += kChunk) {
                f(at, std::span(values).first(static_cast<std::size_t>(std::min(kChunk, n - at))));
            }
        });
}

// From codes under another scale.
void requantise(const TensorRef& x, float scale, const TensorRef& y) {
    const float old = *x.scales(), inv_scale = 1.0f / scale;
    *y.scales() = scale;
    over_chunks(x.type.shape.elements(), [&](std::int64_t at, std::span<float> values) {
        const std::int64_t count = std::ssize(values);
        dequantise(element(x, at), x.type.dtype, old, values.data(), Dtype::f32, count);
        quantise(values.data(), Dtype::f32, inv_scale, element(y, at), y.type.dtype, count);
    });
}

// Rounded up or down by `noise`.
template <class To>
void quantise_at_random(const TensorRef& x, float scale, const StateNoise& noise,
                        const TensorRef& y) {
    const float inv_scale = 1.0f / scale;
    *y.scales() = scale;
    over_chunks(x.type.shape.elements(), [&](std::int64_t at, std::span<float> values) {
        convert(element(x, at), x.type.dtype, values.data(), Dtype::f32, std::ssize(values));
        PhiloxBlock words{};
        for (std::size_t i = 0; i < values.size(); ++i) {
            const auto quad = (static_cast<std::uint64_t>(at) + i) / 4;
            if (i % 4 == 0) words = noise(kOutputGradient, quad);
            y.as<To>()[at + static_cast<std::int64_t>(i)] =
                To(round_stochastically_to<To>(values[i] * inv_scale, words[i % 4]));
        }
    });
}

Prepared prepare_at_random(const Quantise& op) {
    return {[op](const KernelCall& call) {
        const auto draw = static_cast<std::uint32_t>(*call.in[2].as<std::int32_t>());
        const StateNoise noise{op.noise->seed, op.noise->tensor, draw};
        const auto quantise =
            op.to == Dtype::e4m3 ? quantise_at_random<e4m3> : quantise_at_random<e5m2>;
        quantise(call.in[0], *call.in[1].as<float>(), noise, call.out[0]);
    }};
}

Prepared prepare(const NodeView& node) {
    const auto quantise = node.in[0].scaling == kUnscaled ? quantise_tensor : requantise;
    const auto op = std::get<Quantise>(node.op);
    if (op.noise) return prepare_at_random(op);
    const Type rows{op.to, node.in[0].shape, kPerTensor};
    const bool columns = op.copies == Copies::columns;  // alone: the rows wait in scratch
    const auto run = [=](const KernelCall& call) {
        const TensorRef y = columns ? tensor_at(rows, call.scratch) : call.out[0];
        quantise(call.in[0], *call.in[1].as<float>(), y);
        if (op.copies != Copies::rows) transpose(y, call.out.back());
    };
    return {run, columns ? total_bytes(rows) : 0};
}

}  // namespace

void register_quantise(KernelRegistry& registry) {
    registry.add<Quantise>({"quantise", takes_all, prepare});
}

}  // namespace octavo::cpu
