#include "backends/cuda/activations.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

template <class T>
struct SwiGluGradBody {
    const T *gate, *up, *dy;
    T *dgate, *dup;
    compute_t<T> factor;

    template <int N>
    __device__ void run(std::int64_t i) const {
        using C = compute_t<T>;
        C g[N], u[N], d[N], dg[N], du[N];
        load<N>(gate + i, g);
        load<N>(up + i, u);
        load<N>(dy + i, d);
#pragma unroll
        for (int k = 0; k < N; ++k) swiglu_gradients(g[k], u[k], d[k], factor, dg[k], du[k]);
        store<N>(dgate + i, dg);
        store<N>(dup + i, du);
    }
};

Prepared prepare(const NodeView& node) {
    const float factor = power_of_two(std::get<SwiGluGrad>(node.op).exponent);
    return dispatch_plain(node.in[0].dtype, [factor](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[factor](const KernelCall& call) {
            for_elements(
                "swiglu_grad", call.out[0].type.shape.elements(),
                SwiGluGradBody<T>{call.in[0].as<T>(), call.in[1].as<T>(), call.in[2].as<T>(),
                                  call.out[0].as<T>(), call.out[1].as<T>(), compute_t<T>(factor)});
        }};
    });
}

}  // namespace

void register_swiglu_grad(KernelRegistry& registry) {
    registry.add<SwiGluGrad>({"swiglu_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
