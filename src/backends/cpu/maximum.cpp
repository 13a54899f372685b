#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T>
void maximum(const KernelCall& call) {
    using C = compute_t<T>;
    const T *a = call.in[0].as<T>(), *b = call.in[1].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         const C u = C(a[i]), v = C(b[i]);
                         y[i] = round_to<T>(u > v || v != v ? u : v);
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype,
                          [](auto tag) { return Prepared{maximum<typename decltype(tag)::type>}; });
}

}  // namespace

void register_maximum(KernelRegistry& registry) {
    registry.add<Maximum>({"maximum", takes_all, prepare});
}

}  // namespace octavo::cpu
