#include "backends/cuda/cross_entropy.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    const auto op = std::get<CrossEntropyGrad>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[op](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            row_gradients(call.in[0].as<T>(), call.in[1].as<std::int32_t>(), call.in[2].as<C>(),
                          shape[0], shape[1], call.in[4].as<C>(), call.in[3].as<C>(),
                          C(power_of_two(op.exponent)), C(power_of_two(op.gradient_exponent)),
                          call.out[0].as<T>());
        }};
    });
}

}  // namespace

void register_cross_entropy_grad(KernelRegistry& registry) {
    registry.add<CrossEntropyGrad>({"cross_entropy_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
