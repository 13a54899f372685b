#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "backends/cpu/scaling.h"
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
void smooth_swiglu(const KernelCall& call, const SmoothSwiGlu& op) {
    using C = compute_t<T>;
    const TensorRef& up = call.in[1];
    const T* gate = call.in[0].as<T>();
    T* h = call.out[0].as<T>();
    C* s = call.out[1].as<C>();
    const std::int64_t rows = up.type.shape.rows(), columns = up.type.shape.last();
    if (op.axis == Axis::column) column_factors<T>(up, op.rounding, call.scratch, s);
    const C* divisors = op.given ? call.in[2].as<C>() : s;
    SharedAmax top;
    parallel_for(rows, row_grain(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const T *g = gate + row * columns, *u = up.as<T>() + row * columns;
            T* y = h + row * columns;
            if (op.axis == Axis::row) {
                s[row] = smooth_factor(amax(u, up.type.dtype, columns), op.rounding);
                const C inverse = C(1) / s[row];
#pragma omp simd
                for (std::int64_t i = 0; i < columns; ++i) {
                    const C a = C(g[i]);
                    y[i] = round_to<T>(a * sigmoid(a) * (C(u[i]) * inverse));
                }
            } else {
#pragma omp simd
                for (std::int64_t i = 0; i < columns; ++i) {
                    const C a = C(g[i]);
                    y[i] = round_to<T>(a * sigmoid(a) * (C(u[i]) * (C(1) / divisors[i])));
                }
            }
            if (op.amax) top.raise(amax(y, up.type.dtype, columns));
        }
    });
    if (op.amax) *call.out[2].as<float>() = top.value();
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<SmoothSwiGlu>(node.op);
    const Shape& shape = node.in[0].shape;
    const std::int64_t scratch =
        op.axis == Axis::column ? row_chunk_bytes<std::uint32_t>(shape.rows(), shape.last()) : 0;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[op](const KernelCall& call) { smooth_swiglu<T>(call, op); }, scratch};
    });
}

}  // namespace

void register_smooth_swiglu(KernelRegistry& registry) {
    registry.add<SmoothSwiGlu>({"smooth_swiglu", takes_all, prepare});
}

}  // namespace octavo::cpu
