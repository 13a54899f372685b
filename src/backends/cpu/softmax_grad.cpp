#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void softmax_grad(const KernelCall& call, int exponent) {
    using C = compute_t<T>;
    const C factor = power_of_two(exponent);
    const std::int64_t c = call.in[0].type.shape.last();
    parallel_for(call.in[0].type.shape.rows(), row_grain(c),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         const T* y = call.in[0].as<T>() + row * c;
                         const T* dy = call.in[1].as<T>() + row * c;
                         T* dx = call.out[0].as<T>() + row * c;
                         C mean = 0;
#pragma omp simd reduction(+ : mean)
                         for (std::int64_t i = 0; i < c; ++i) {
                             mean += C(y[i]) * factor * C(dy[i]);
                         }
#pragma omp simd
                         for (std::int64_t i = 0; i < c; ++i) {
                             dx[i] = round_to<T>(C(y[i]) * (C(dy[i]) - mean));
                         }
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const int exponent = std::get<SoftmaxGrad>(node.op).exponent;
    return dispatch_plain(node.in[0].dtype, [exponent](auto tag) {
        return Prepared{[exponent](const KernelCall& call) {
            softmax_grad<typename decltype(tag)::type>(call, exponent);
        }};
    });
}

}  // namespace

void register_softmax_grad(KernelRegistry& registry) {
    registry.add<SoftmaxGrad>({"softmax_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
