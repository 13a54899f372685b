#include "backends/cuda/cross_entropy.cuh"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            row_gradients(call.in[0].as<T>(), call.in[1].as<std::int32_t>(), call.in[2].as<C>(),
                          shape[0], shape[1], call.in[4].as<C>(), call.in[3].as<C>(),
                          call.out[0].as<T>());
        }};
    });
}

}  // namespace

void register_cross_entropy_grad(KernelRegistry& registry) {
    registry.add<CrossEntropyGrad>({"cross_entropy_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
