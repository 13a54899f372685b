#include "base/block_scale.h"

#include <array>
#include <limits>

#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "backends/cpu/transpose.h"
#include "backends/quantise_source.h"
#include "base/convert.h"

namespace octavo::cpu {
namespace {

// A matrix and what its quantisation becomes.
struct Job {
    const BlockQuantise& op;
    TensorRef x, y;
    ScaleLayout layout = scale_layout(y.type);
    std::int64_t rows = x.type.shape.rows(), columns = x.type.shape.last();

    float amax_of(std::int64_t row, std::int64_t column, std::int64_t n) const {
        return amax(element(x, row * columns + column), x.type.dtype, n);
    }
    Scale scale_of(float amax) const {
        return BlockScale{max_value(op.to), op.floor, op.rounding, op.rule}(amax);
    }
    float& scale(std::int64_t row, std::int64_t column) const {
        return y.scales()[layout.scale_at(row, column)];
    }
    void cast(std::int64_t row, std::int64_t column, std::int64_t n, float inv_scale) const {
        const std::int64_t at = row * columns + column;
        quantise(element(x, at), x.type.dtype, inv_scale, element(y, at), op.to, n);
    }
};

void quantise_row(const Job& j, std::int64_t row) {
    const Scale s = j.scale_of(j.amax_of(row, 0, j.columns));
    j.scale(row, 0) = s.scale;
    j.cast(row, 0, j.columns, s.inv_scale);
}

void quantise_1x128(const Job& j, std::int64_t row) {
    for (std::int64_t column = 0; column < j.columns; column += kScaleBlock) {
        const std::int64_t n = std::min(kScaleBlock, j.columns - column);
        const Scale s = j.scale_of(j.amax_of(row, column, n));
        j.scale(row, column) = s.scale;
        j.cast(row, column, n, s.inv_scale);
    }
}

// The 128 rows from `first`.
void quantise_128x128(const Job& j, std::int64_t first) {
    const std::int64_t last = std::min(first + kScaleBlock, j.rows);
    for (std::int64_t column = 0; column < j.columns; column += kScaleBlock) {
        const std::int64_t n = std::min(kScaleBlock, j.columns - column);
        SharedAmax top;
        for (std::int64_t row = first; row < last; ++row) top.raise(j.amax_of(row, column, n));
        const Scale s = j.scale_of(top.value());
        j.scale(first, column) = s.scale;
        for (std::int64_t row = first; row < last; ++row) j.cast(row, column, n, s.inv_scale);
    }
}

// (x * inverse) * inv_scale, the first product exact: one product with both where it is a number.
void cast_group(const Job& j, std::int64_t row, std::int64_t column, std::int64_t n, float inverse,
                float inv_scale) {
    const float both = inverse * inv_scale;
    if (!(both > std::numeric_limits<float>::max())) return j.cast(row, column, n, both);
    std::array<float, kScaleBlock> raised;
    const std::int64_t at = row * j.columns + column;
    convert(element(j.x, at), j.x.type.dtype, raised.data(), Dtype::f32, n);
    for (std::int64_t i = 0; i < n; ++i) raised[static_cast<std::size_t>(i)] *= inverse;
    quantise(raised.data(), Dtype::f32, inv_scale, element(j.y, at), j.op.to, n);
}

void quantise_groups(const Job& j, std::int64_t row, float whole) {
    const auto [scale, inv_scale] = j.scale_of(whole);
    j.scale(row, 0) = scale;
    for (std::int64_t column = 0; column < j.columns; column += j.op.scaling.group) {
        const std::int64_t n = std::min<std::int64_t>(j.op.scaling.group, j.columns - column);
        const int exponent = is_finite_amax(whole)
                                 ? group_exponent(j.amax_of(row, column, n), whole, j.op.floor)
                                 : unit_exponent();
        j.y.groups[j.layout.group_at(row, column)] = static_cast<std::uint8_t>(exponent);
        cast_group(j, row, column, n, group_inverse(exponent), inv_scale);
    }
}

void quantise_rows(const BlockQuantise& op, const TensorRef& x, const TensorRef& y) {
    const Job j{op, x, y};
    // Padding first; what belongs to elements is written over it.
    std::fill_n(y.scales(), scale_count(y.type), 0.0f);
    std::fill_n(y.groups, group_bytes(y.type), static_cast<std::uint8_t>(unit_exponent()));
    const auto each_row = [&](auto&& f) {
        parallel_for(j.rows, row_grain(j.columns), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row) f(row);
        });
    };
    switch (op.scaling.granularity) {
        case Granularity::row:
            return each_row([&](std::int64_t row) { quantise_row(j, row); });
        case Granularity::block_1x128:
            return each_row([&](std::int64_t row) { quantise_1x128(j, row); });
        case Granularity::block_128x128:
            parallel_for((j.rows + kScaleBlock - 1) / kScaleBlock, 1,
                         [&](std::int64_t begin, std::int64_t end) {
                             for (std::int64_t b = begin; b < end; ++b) {
                                 quantise_128x128(j, b * kScaleBlock);
                             }
                         });
            return;
        default: {
            const float all = op.global ? tensor_amax(x) : 0.0f;
            return each_row([&](std::int64_t row) {
                quantise_groups(j, row, op.global ? all : j.amax_of(row, 0, j.columns));
            });
        }
    }
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<BlockQuantise>(node.op);
    const QuantisedSource source(kernel_registry(), op.of, {}, node.in);
    const Type& x = source.types()[0];
    const Type transposed{x.dtype, {x.shape.last(), x.shape.rows()}};
    ScratchCounter scratch;
    const std::int64_t source_at = scratch.reserve(source.scratch_bytes());
    const std::int64_t turned_at =
        op.copies == Copies::rows ? 0 : scratch.reserve(total_bytes(transposed));
    const auto run = [=](const KernelCall& call) {
        auto out = call.out.begin();
        for (const TensorRef& value : source.values(call.in, call.scratch + source_at)) {
            if (op.copies != Copies::columns) quantise_rows(op, value, *out++);
            if (op.copies == Copies::rows) continue;
            const TensorRef turned = tensor_at(transposed, call.scratch + turned_at);
            transpose(value, turned);
            quantise_rows(op, turned, *out++);
        }
    };
    return {run, scratch.bytes()};
}

}  // namespace

void register_block_quantise(KernelRegistry& registry) {
    registry.add<BlockQuantise>({"block_quantise", takes_all, prepare});
}

}  // namespace octavo::cpu
