#include "backends/cpu/cross_entropy.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void cross_entropy_grad(const KernelCall& call, CrossEntropyGrad op) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    const C factor =
        *call.in[4].as<C>() * *call.in[3].as<C>() * C(power_of_two(op.gradient_exponent));
    row_gradients(call.in[0].as<T>(), call.in[1].as<std::int32_t>(), call.in[2].as<C>(), shape[0],
                  shape[1], C(power_of_two(op.exponent)), factor, call.out[0].as<T>());
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<CrossEntropyGrad>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        return Prepared{[op](const KernelCall& call) {
            cross_entropy_grad<typename decltype(tag)::type>(call, op);
        }};
    });
}

}  // namespace

void register_cross_entropy_grad(KernelRegistry& registry) {
    registry.add<CrossEntropyGrad>({"cross_entropy_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
