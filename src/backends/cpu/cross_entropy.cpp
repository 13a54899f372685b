#include "backends/cpu/cross_entropy.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void cross_entropy(const KernelCall& call, int exponent) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    double* loss = reinterpret_cast<double*>(call.scratch);
    row_losses(call.in[0].as<T>(), call.in[1].as<std::int32_t>(), shape[0], shape[1],
               C(power_of_two(exponent)), call.out[1].as<C>(), loss);
    *call.out[0].as<C>() = total_loss(loss, shape[0], *call.in[2].as<C>());
}

Prepared prepare(const NodeView& node) {
    const std::int64_t bytes = node.in[0].shape[0] * static_cast<std::int64_t>(sizeof(double));
    const int exponent = std::get<CrossEntropy>(node.op).exponent;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        return Prepared{[exponent](const KernelCall& call) {
                            cross_entropy<typename decltype(tag)::type>(call, exponent);
                        },
                        bytes};
    });
}

}  // namespace

void register_cross_entropy(KernelRegistry& registry) {
    registry.add<CrossEntropy>({"cross_entropy", takes_all, prepare});
}

}  // namespace octavo::cpu
