#include "backends/cuda/cross_entropy.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    const std::int64_t m = node.in[0].shape[0], v = node.in[0].shape[1];
    const float k = power_of_two(std::get<CrossEntropy>(node.op).exponent);
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        const auto run = [m, v, k](const KernelCall& call) {
            double* loss = reinterpret_cast<double*>(call.scratch);
            row_losses(call.in[0].as<T>(), call.in[1].as<std::int32_t>(), m, v, C(k),
                       call.out[1].as<C>(), loss);
            total_loss(loss, m, call.in[2].as<C>(), call.out[0].as<C>());
        };
        return Prepared{run, m * static_cast<std::int64_t>(sizeof(double))};
    });
}

}  // namespace

void register_cross_entropy(KernelRegistry& registry) {
    registry.add<CrossEntropy>({"cross_entropy", takes_all, prepare});
}

}  // namespace octavo::cuda
