#include <limits>

#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "backends/overflow.h"

namespace octavo::cpu {
namespace {

template <class T>
void overflow_to_nan(const KernelCall& call, const FitsFormat& fits) {
    using C = compute_t<T>;
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         const C v = C(x[i]);
                         y[i] = round_to<T>(fits(v) ? v : std::numeric_limits<C>::quiet_NaN());
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const FitsFormat fits = fits_format(std::get<OverflowToNan>(node.op));
    return dispatch_plain(node.in[0].dtype, [fits](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[fits](const KernelCall& call) { overflow_to_nan<T>(call, fits); }};
    });
}

}  // namespace

void register_overflow_to_nan(KernelRegistry& registry) {
    registry.add<OverflowToNan>({"overflow_to_nan", takes_all, prepare});
}

}  // namespace octavo::cpu
