#include "backends/cuda/rows.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

template <class T>
struct BiasAddRows {
    using C = compute_t<T>;
    const T* x;
    const C* b;
    T* y;
    std::int64_t n;
    C x_factor, b_factor;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        over_row<Team, N>(n, [&](std::int64_t i) {
            C v[N], bias[N];
            load<N>(x + row * n + i, v);
            load<N>(b + i, bias);
#pragma unroll
            for (int k = 0; k < N; ++k) v[k] = v[k] * x_factor + bias[k] * b_factor;
            store<N>(y + row * n + i, v);
        });
    }
};

Prepared prepare(const NodeView& node) {
    const auto op = std::get<BiasAdd>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[op](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            for_rows("bias_add", shape.rows(), shape.last(),
                     BiasAddRows<T>{call.in[0].as<T>(), call.in[1].as<C>(), call.out[0].as<T>(),
                                    shape.last(), C(power_of_two(op.x_exponent)),
                                    C(power_of_two(op.bias_exponent))});
        }};
    });
}

}  // namespace

void register_bias_add(KernelRegistry& registry) {
    registry.add<BiasAdd>({"bias_add", takes_all, prepare});
}

}  // namespace octavo::cuda
