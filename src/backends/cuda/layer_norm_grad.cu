#include "backends/cuda/norm_grad.cuh"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    const std::int64_t rows = node.in[0].shape.rows(), c = node.in[0].shape.last();
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        const auto run = [rows, c](const KernelCall& call) {
            const NormGrad<T, true> op{.x = call.in[0].as<T>(),
                                       .dy = call.in[4].as<T>(),
                                       .acc = call.in.size() > 5 ? call.in[5].as<T>() : nullptr,
                                       .w = call.in[1].as<C>(),
                                       .mean = call.in[2].as<C>(),
                                       .rstd = call.in[3].as<C>(),
                                       .dx = call.out[0].as<T>(),
                                       .rows = rows,
                                       .c = c};
            norm_grad("layer_norm_grad", op, call.scratch, call.out[1].as<C>(),
                      call.out[2].as<C>());
        };
        return Prepared{run, norm_grad_bytes<T, true>(rows, c)};
    });
}

}  // namespace

void register_layer_norm_grad(KernelRegistry& registry) {
    registry.add<LayerNormGrad>({"layer_norm_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
