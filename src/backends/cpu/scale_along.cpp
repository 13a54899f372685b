#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

// y[i] = x[i] * factor(i) [+ acc[i]]
template <class T, class F>
void scale_row(const T* x, const T* acc, T* y, std::int64_t columns, F&& factor) {
    using C = compute_t<T>;
    if (acc) {
#pragma omp simd
        for (std::int64_t i = 0; i < columns; ++i) {
            y[i] = round_to<T>(C(x[i]) * factor(i) + C(acc[i]));
        }
    } else {
#pragma omp simd
        for (std::int64_t i = 0; i < columns; ++i) y[i] = round_to<T>(C(x[i]) * factor(i));
    }
}

template <class T>
void scale_along(const KernelCall& call, const ScaleAlong& op) {
    using C = compute_t<T>;
    const T* x = call.in[0].as<T>();
    const C* s = call.in[1].as<C>();
    const T* acc = call.in.size() == 3 ? call.in[2].as<T>() : nullptr;
    T* y = call.out[0].as<T>();
    const Shape& shape = call.in[0].type.shape;
    const std::int64_t columns = shape.last();
    const auto factor = [=](std::int64_t i) { return op.inverse ? C(1) / s[i] : s[i]; };
    parallel_for(shape.rows(), row_grain(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const std::int64_t at = row * columns;
            const T* sum = acc ? acc + at : nullptr;
            if (op.axis == Axis::row) {
                scale_row(x + at, sum, y + at, columns, [f = factor(row)](auto) { return f; });
            } else {
                scale_row(x + at, sum, y + at, columns, factor);
            }
        }
    });
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[op = std::get<ScaleAlong>(node.op)](const KernelCall& call) {
            scale_along<T>(call, op);
        }};
    });
}

}  // namespace

void register_scale_along(KernelRegistry& registry) {
    registry.add<ScaleAlong>({"scale_along", takes_all, prepare});
}

}  // namespace octavo::cpu
