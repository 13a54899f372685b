#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"

namespace octavo::cuda {
namespace {

// y = a * b[0]
template <class T>
struct Scale {
    const T* a;
    const compute_t<T>* b;
    T* y;

    template <int N>
    __device__ void run(std::int64_t i) const {
        compute_t<T> x[N];
        load<N>(a + i, x);
        const compute_t<T> factor = *b;
#pragma unroll
        for (int k = 0; k < N; ++k) x[k] *= factor;
        store<N>(y + i, x);
    }
};

Prepared prepare(const NodeView& node) {
    if (node.in[0] == node.in[1]) return prepare_map<2>(node, MulFunction{});
    return dispatch_plain(node.in[0].dtype, [](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[](const KernelCall& call) {
            for_elements(
                "mul", call.out[0].type.shape.elements(),
                Scale<T>{call.in[0].as<T>(), call.in[1].as<compute_t<T>>(), call.out[0].as<T>()});
        }};
    });
}

}  // namespace

void register_mul(KernelRegistry& registry) { registry.add<Mul>({"mul", takes_all, prepare}); }

}  // namespace octavo::cuda
