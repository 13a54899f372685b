#include "backends/cuda/rows.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

template <class T>
struct SoftmaxGradRows {
    using C = compute_t<T>;
    const T *y, *dy;
    T* dx;
    std::int64_t c;
    C factor;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        C mean = 0;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C p[N], g[N];
            load<N>(y + row * c + i, p);
            load<N>(dy + row * c + i, g);
#pragma unroll
            for (int j = 0; j < N; ++j) mean += p[j] * factor * g[j];
        });
        mean = Team::sum(mean);
        over_row<Team, N>(c, [&](std::int64_t i) {
            C p[N], g[N];
            load<N>(y + row * c + i, p);
            load<N>(dy + row * c + i, g);
#pragma unroll
            for (int j = 0; j < N; ++j) g[j] = p[j] * (g[j] - mean);
            store<N>(dx + row * c + i, g);
        });
    }
};

Prepared prepare(const NodeView& node) {
    const float factor = power_of_two(std::get<SoftmaxGrad>(node.op).exponent);
    return dispatch_plain(node.in[0].dtype, [factor](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[factor](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            for_rows("softmax_grad", shape.rows(), shape.last(),
                     SoftmaxGradRows<T>{call.in[0].as<T>(), call.in[1].as<T>(), call.out[0].as<T>(),
                                        shape.last(), compute_t<T>(factor)});
        }};
    });
}

}  // namespace

void register_softmax_grad(KernelRegistry& registry) {
    registry.add<SoftmaxGrad>({"softmax_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
