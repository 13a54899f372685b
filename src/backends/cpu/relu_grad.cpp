#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T>
void relu_grad(const KernelCall& call) {
    using C = compute_t<T>;
    const T *y = call.in[0].as<T>(), *dy = call.in[1].as<T>();
    T* dx = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         dx[i] = round_to<T>(C(y[i]) > C(0) ? C(dy[i]) : C(0));
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [](auto tag) {
        return Prepared{relu_grad<typename decltype(tag)::type>};
    });
}

}  // namespace

void register_relu_grad(KernelRegistry& registry) {
    registry.add<ReluGrad>({"relu_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
