#include "backends/cuda/norm_grad.cuh"
#include "backends/followed_by.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    const std::int64_t rows = node.in[0].shape.rows(), c = node.in[0].shape.last();
    const auto measure = std::get<RmsNormGrad>(node.op).measure;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        const bool inside = measure && measures_norm_grad<T>(*measure, rows, c);
        const auto run = [=](const KernelCall& call) {
            const T* acc = !inside && call.in.size() > 4 ? call.in[4].as<T>() : nullptr;
            const NormGrad<T, false> op{.x = call.in[0].as<T>(),
                                        .dy = call.in[3].as<T>(),
                                        .acc = acc,
                                        .w = call.in[1].as<C>(),
                                        .mean = nullptr,
                                        .rstd = call.in[2].as<C>(),
                                        .dx = call.out[0].as<T>(),
                                        .rows = rows,
                                        .c = c};
            std::optional<NormGradSize> size;
            if (inside) size = {*measure, call.in[4].as<float>(), call.out[2].as<float>()};
            norm_grad("rms_norm_grad", op, call.scratch, call.out[1].as<C>(), nullptr, size);
        };
        const Prepared gradient{run, norm_grad_bytes<T, false>(rows, c)};
        if (!measure || inside) return gradient;
        return followed_by(kernel_registry(), node, gradient, 4, 2, *measure);
    });
}

}  // namespace

void register_rms_norm_grad(KernelRegistry& registry) {
    registry.add<RmsNormGrad>({"rms_norm_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
