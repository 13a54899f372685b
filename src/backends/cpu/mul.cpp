#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T>
void mul(const KernelCall& call) {
    using C = compute_t<T>;
    const T *a = call.in[0].as<T>(), *b = call.in[1].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i)
                         y[i] = round_to<T>(C(a[i]) * C(b[i]));
                 });
}

template <class T>
void scale(const KernelCall& call) {
    using C = compute_t<T>;
    const T* a = call.in[0].as<T>();
    const C factor = *call.in[1].as<C>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i)
                         y[i] = round_to<T>(C(a[i]) * factor);
                 });
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{node.in[0] == node.in[1] ? mul<T> : scale<T>};
    });
}

}  // namespace

void register_mul(KernelRegistry& registry) { registry.add<Mul>({"mul", takes_all, prepare}); }

}  // namespace octavo::cpu
