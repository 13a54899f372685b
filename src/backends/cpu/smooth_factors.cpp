#include "backends/cpu/kernels.h"
#include "base/convert.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

// From the largest magnitudes of columns: in chunks of rows, then over the chunks.
template <class T>
void column_factors(const TensorRef& up, ScaleRounding rounding, std::byte* scratch,
                    compute_t<T>* s) {
    const std::int64_t rows = up.type.shape.rows(), columns = up.type.shape.last();
    const std::int64_t chunks = row_chunks(rows);
    auto* const partials = reinterpret_cast<std::uint32_t*>(scratch);
    parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            std::uint32_t* const top = partials + i * columns;
            std::fill_n(top, columns, 0u);
            for (std::int64_t row = rows * i / chunks; row < rows * (i + 1) / chunks; ++row) {
                const T* x = up.as<T>() + row * columns;
#pragma omp simd
                for (std::int64_t j = 0; j < columns; ++j) {
                    const auto bits =
                        std::bit_cast<std::uint32_t>(static_cast<float>(x[j])) & 0x7FFFFFFF;
                    top[j] = top[j] < bits ? bits : top[j];
                }
            }
        }
    });
    for (std::int64_t j = 0; j < columns; ++j) {
        std::uint32_t top = 0;
        for (std::int64_t i = 0; i < chunks; ++i) top = std::max(top, partials[i * columns + j]);
        s[j] = smooth_factor(std::bit_cast<float>(top), rounding);
    }
}

template <class T>
void row_factors(const TensorRef& up, ScaleRounding rounding, compute_t<T>* s) {
    const std::int64_t rows = up.type.shape.rows(), columns = up.type.shape.last();
    parallel_for(rows, row_grain(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            s[row] =
                smooth_factor(amax(up.as<T>() + row * columns, up.type.dtype, columns), rounding);
        }
    });
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<SmoothFactors>(node.op);
    const Shape& shape = node.in[0].shape;
    const std::int64_t scratch =
        op.axis == Axis::column ? row_chunk_bytes<std::uint32_t>(shape.rows(), shape.last()) : 0;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto run = [op](const KernelCall& call) {
            auto* const s = call.out[0].as<compute_t<T>>();
            if (op.axis == Axis::row) return row_factors<T>(call.in[0], op.rounding, s);
            column_factors<T>(call.in[0], op.rounding, call.scratch, s);
        };
        return Prepared{run, scratch};
    });
}

}  // namespace

void register_smooth_factors(KernelRegistry& registry) {
    registry.add<SmoothFactors>({"smooth_factors", takes_all, prepare});
}

}  // namespace octavo::cpu
