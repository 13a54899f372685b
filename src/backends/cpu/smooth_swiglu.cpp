#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "backends/cpu/scaling.h"
#include "base/convert.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void smooth_swiglu(const KernelCall& call, const SmoothSwiGlu& op, const Prepared& factors) {
    using C = compute_t<T>;
    const TensorRef& up = call.in[1];
    const T* gate = call.in[0].as<T>();
    T* h = call.out[0].as<T>();
    C* s = call.out[1].as<C>();
    const std::int64_t rows = up.type.shape.rows(), columns = up.type.shape.last();
    if (op.axis == Axis::column)
        factors.run({call.in.subspan(1, 1), call.out.subspan(1, 1), call.scratch});
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
    // Of columns; those of a row are found while it is at hand.
    Prepared factors;
    if (op.axis == Axis::column) {
        factors = prepare_op(kernel_registry(), SmoothFactors{op.axis, op.rounding},
                             node.in.subspan(1, 1));
    }
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[=](const KernelCall& call) { smooth_swiglu<T>(call, op, factors); },
                        factors.scratch_bytes};
    });
}

}  // namespace

void register_smooth_swiglu(KernelRegistry& registry) {
    registry.add<SmoothSwiGlu>({"smooth_swiglu", takes_all, prepare});
}

}  // namespace octavo::cpu
