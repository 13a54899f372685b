#include "backends/cpu/dequantise.h"

#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "base/convert.h"
#include "base/float8.h"

namespace octavo::cpu {
namespace {

void dequantise_tensor(const TensorRef& x, const TensorRef& y) {
    parallel_for(x.type.shape.elements(), row_grain(1), [&](std::int64_t begin, std::int64_t end) {
        octavo::dequantise(element(x, begin), x.type.dtype, *x.scales(), element(y, begin),
                           y.type.dtype, end - begin);
    });
}

// Elements of a row that share all their factors.
std::int64_t run_length(const Type& t) {
    switch (t.scaling.granularity) {
        case Granularity::row:
            return std::max<std::int64_t>(t.shape.last(), 1);
        case Granularity::micro:
            return t.scaling.group;
        default:
            return kScaleBlock;
    }
}

void scale_row(const TensorRef& x, const ScaleLayout& layout, std::int64_t row, float* values) {
    const std::int64_t n = x.type.shape.last(), run = run_length(x.type);
    for (std::int64_t column = 0; column < n; column += run) {
        const float scale = x.scales()[layout.scale_at(row, column)];
        const std::int64_t end = std::min(column + run, n);
        if (x.groups) {
            const auto power =
                static_cast<float>(e8m0::from_bits(x.groups[layout.group_at(row, column)]));
            for (std::int64_t i = column; i < end; ++i) values[i] = values[i] * power * scale;
        } else {
            for (std::int64_t i = column; i < end; ++i) values[i] *= scale;
        }
    }
}

}  // namespace

void dequantise(const TensorRef& x, const TensorRef& y) {
    if (x.type.scaling == kPerTensor) return dequantise_tensor(x, y);
    const std::int64_t n = x.type.shape.last();
    const ScaleLayout layout = scale_layout(x.type);
    parallel_for(x.type.shape.rows(), row_grain(n), [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> values(static_cast<std::size_t>(n));
        for (std::int64_t row = begin; row < end; ++row) {
            convert(element(x, row * n), x.type.dtype, values.data(), Dtype::f32, n);
            scale_row(x, layout, row, values.data());
            convert(values.data(), Dtype::f32, element(y, row * n), y.type.dtype, n);
        }
    });
}

void register_dequantise(KernelRegistry& registry) {
    registry.add<Dequantise>(
        {"dequantise", takes_all, [](const NodeView&) -> Prepared {
             return {[](const KernelCall& call) { dequantise(call.in[0], call.out[0]); }};
         }});
}

}  // namespace octavo::cpu
