#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct Add {
    const T *a, *b;
    T* y;

    template <int N>
    __device__ void run(std::int64_t i) const {
        compute_t<T> x[N], z[N];
        load<N>(a + i, x);
        load<N>(b + i, z);
#pragma unroll
        for (int k = 0; k < N; ++k) x[k] += z[k];
        store<N>(y + i, x);
    }
};

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[](const KernelCall& call) {
            for_elements("add", call.out[0].type.shape.elements(),
                         Add<T>{call.in[0].as<T>(), call.in[1].as<T>(), call.out[0].as<T>()});
        }};
    });
}

}  // namespace

void register_add(KernelRegistry& registry) {
    registry.add<octavo::Add>({"add", takes_all, prepare});
}

}  // namespace octavo::cuda
