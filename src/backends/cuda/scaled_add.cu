#include "backends/cuda/kernels.cuh"
#include "backends/propagation.h"

namespace octavo::cuda {
namespace {

template <class T>
struct ScaledSum {
    const T *a, *b;
    T* z;
    const float *a_scale, *b_scale, *a_size, *b_size;
    float* scale;
    ScaledAdd op;

    // Scales are a few bytes in the cache; every thread works out the same factors.
    template <int N>
    __device__ void run(std::int64_t i) const {
        using C = compute_t<T>;
        const SumFactors f = sum_factors(op, *a_scale, *b_scale, *a_size, *b_size);
        if (i == 0) *scale = f.scale;
        C x[N], y[N];
        load<N>(a + i, x);
        load<N>(b + i, y);
#pragma unroll
        for (int k = 0; k < N; ++k) x[k] = x[k] * C(f.a) + y[k] * C(f.b);
        store<N>(z + i, x);
    }
};

// No elements, but their scale.
template <class T>
__global__ void empty_sum_kernel(ScaledSum<T> sum) {
    *sum.scale = sum_factors(sum.op, *sum.a_scale, *sum.b_scale, *sum.a_size, *sum.b_size).scale;
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<ScaledAdd>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[op](const KernelCall& call) {
            const auto scale = [&](std::size_t i) { return call.in[i].as<float>(); };
            const ScaledSum<T> sum{.a = call.in[0].as<T>(),
                                   .b = call.in[2].as<T>(),
                                   .z = call.out[0].as<T>(),
                                   .a_scale = scale(1),
                                   .b_scale = scale(3),
                                   .a_size = scale(4),
                                   .b_size = scale(5),
                                   .scale = call.out[1].as<float>(),
                                   .op = op};
            const std::int64_t n = call.out[0].type.shape.elements();
            if (n == 0) empty_sum_kernel<<<1, 1, 0, stream()>>>(sum);
            for_elements("scaled_add", n, sum);
        }};
    });
}

}  // namespace

void register_scaled_add(KernelRegistry& registry) {
    registry.add<ScaledAdd>({"scaled_add", takes_all, prepare});
}

}  // namespace octavo::cuda
