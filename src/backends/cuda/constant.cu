#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct Fill {
    T value;
    T* y;

    template <int N>
    __device__ void run(std::int64_t i) const {
#pragma unroll
        for (int k = 0; k < N; ++k) y[i + k] = value;
    }
};

Prepared prepare(const NodeView& node) {
    const double value = std::get<Constant>(node.op).value;
    return dispatch_plain(node.out[0].dtype, [value](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[v = from_f64<T>(value)](const KernelCall& call) {
            for_elements("constant", call.out[0].type.shape.elements(),
                         Fill<T>{v, call.out[0].as<T>()});
        }};
    });
}

}  // namespace

void register_constant(KernelRegistry& registry) {
    registry.add<Constant>({"constant", takes_all, prepare});
}

}  // namespace octavo::cuda
