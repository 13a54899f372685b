#include "backends/cpu/transpose.h"

#include "backends/cpu/kernels.h"
#include "backends/stack.h"

namespace octavo::cpu {
namespace {

// Square tiles, so that both sides stay within the nearest cache.
constexpr std::int64_t kTile = 32;

template <class Code>
void transpose_codes(const Code* x, Code* y, std::int64_t m, std::int64_t n) {
    parallel_for((n + kTile - 1) / kTile, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t column = begin * kTile; column < std::min(end * kTile, n);
             column += kTile) {
            const std::int64_t last = std::min(column + kTile, n);
            for (std::int64_t row = 0; row < m; row += kTile) {
                for (std::int64_t j = column; j < last; ++j) {
                    for (std::int64_t i = row; i < std::min(row + kTile, m); ++i) {
                        y[j * m + i] = x[i * n + j];
                    }
                }
            }
        }
    });
}

void transpose_scales(const TensorRef& x, const TensorRef& y) {
    if (!y.scale) return;
    const ScaleLayout from = scale_layout(x.type), to = scale_layout(y.type);
    std::fill_n(y.scales(), scale_count(y.type), 0.0f);
    const std::int64_t step = from.granularity == Granularity::block_128x128
                                  ? kScaleBlock
                                  : std::max<std::int64_t>(x.type.shape.elements(), 1);
    // At least once: an empty tensor has its scale, too.
    std::int64_t row = 0;
    do {
        std::int64_t column = 0;
        do {
            y.scales()[to.scale_at(column, row)] = x.scales()[from.scale_at(row, column)];
            column += step;
        } while (column < x.type.shape.last());
        row += step;
    } while (row < x.type.shape.rows());
}

void transpose_stack(const KernelCall& call) {
    const TensorRef &x = call.in[0], &y = call.out[0];
    if (x.type.shape[0] == 0) return transpose_scales(x, y);
    for (std::int64_t e = 0; e < x.type.shape[0]; ++e) transpose(matrix_of(x, e), matrix_of(y, e));
}

Prepared prepare(const NodeView& node) {
    if (std::get<Transpose>(node.op).batched) return {transpose_stack};
    return {[](const KernelCall& call) { transpose(call.in[0], call.out[0]); }};
}

}  // namespace

void transpose(const TensorRef& x, const TensorRef& y) {
    const std::int64_t m = x.type.shape.rows(), n = x.type.shape.last();
    switch (size_of(x.type.dtype)) {
        case 1:
            transpose_codes(x.as<std::uint8_t>(), y.as<std::uint8_t>(), m, n);
            break;
        case 2:
            transpose_codes(x.as<std::uint16_t>(), y.as<std::uint16_t>(), m, n);
            break;
        case 4:
            transpose_codes(x.as<std::uint32_t>(), y.as<std::uint32_t>(), m, n);
            break;
        default:
            transpose_codes(x.as<std::uint64_t>(), y.as<std::uint64_t>(), m, n);
    }
    transpose_scales(x, y);
}

void register_transpose(KernelRegistry& registry) {
    registry.add<Transpose>({"transpose", takes_all, prepare});
}

}  // namespace octavo::cpu
