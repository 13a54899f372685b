#include <array>

#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "backends/cpu/transpose.h"
#include "base/convert.h"

namespace octavo::cpu {
namespace {

// From codes under another scale.
void requantise(const TensorRef& x, float scale, const TensorRef& y) {
    constexpr std::int64_t kChunk = 512;
    const float old = *x.scales(), inv_scale = 1.0f / scale;
    *y.scales() = scale;
    const std::int64_t n = x.type.shape.elements(), chunks = (n + kChunk - 1) / kChunk;
    parallel_for(chunks, row_grain(kChunk), [&](std::int64_t begin, std::int64_t end) {
        std::array<float, kChunk> values;
        for (std::int64_t at = begin * kChunk; at < std::min(n, end * kChunk); at += kChunk) {
            const std::int64_t count = std::min(kChunk, n - at);
            dequantise(element(x, at), x.type.dtype, old, values.data(), Dtype::f32, count);
            quantise(values.data(), Dtype::f32, inv_scale, element(y, at), y.type.dtype, count);
        }
    });
}

Prepared prepare(const NodeView& node) {
    const auto quantise = node.in[0].scaling == kUnscaled ? quantise_tensor : requantise;
    const auto op = std::get<Quantise>(node.op);
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
