#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct BiasAddRows {
    using C = compute_t<T>;
    const T* x;
    const C* b;
    T* y;
    std::int64_t n;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        over_row<Team, N>(n, [&](std::int64_t i) {
            C v[N], bias[N];
            load<N>(x + row * n + i, v);
            load<N>(b + i, bias);
#pragma unroll
            for (int k = 0; k < N; ++k) v[k] += bias[k];
            store<N>(y + row * n + i, v);
        });
    }
};

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            for_rows("bias_add", shape.rows(), shape.last(),
                     BiasAddRows<T>{call.in[0].as<T>(), call.in[1].as<compute_t<T>>(),
                                    call.out[0].as<T>(), shape.last()});
        }};
    });
}

}  // namespace

void register_bias_add(KernelRegistry& registry) {
    registry.add<BiasAdd>({"bias_add", takes_all, prepare});
}

}  // namespace octavo::cuda
