#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T>
void scale_along(const KernelCall& call, const ScaleAlong& op) {
    using C = compute_t<T>;
    const T* x = call.in[0].as<T>();
    const C* s = call.in[1].as<C>();
    T* y = call.out[0].as<T>();
    const Shape& shape = call.in[0].type.shape;
    const std::int64_t columns = shape.last();
    const auto factor = [=](std::int64_t i) { return op.inverse ? C(1) / s[i] : s[i]; };
    parallel_for(shape.rows(), row_grain(columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const T* xr = x + row * columns;
            T* yr = y + row * columns;
            if (op.axis == Axis::row) {
                const C f = factor(row);
#pragma omp simd
                for (std::int64_t i = 0; i < columns; ++i) yr[i] = round_to<T>(C(xr[i]) * f);
            } else {
#pragma omp simd
                for (std::int64_t i = 0; i < columns; ++i) {
                    yr[i] = round_to<T>(C(xr[i]) * factor(i));
                }
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
