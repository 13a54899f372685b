#include "backends/cuda/dequantise.h"

#include "backends/cuda/convert.h"
#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

template <class From, class To>
struct Dequantise {
    const From* x;
    const float* scales;
    const std::uint8_t* groups;
    To* y;
    std::int64_t columns;
    ScaleLayout layout;

    template <int N>
    __device__ void run(std::int64_t i) const {
        float v[N];
        load<N>(x + i, v);
#pragma unroll
        for (int e = 0; e < N; ++e) {
            const std::int64_t row = (i + e) / columns, column = (i + e) % columns;
            if (groups) v[e] *= power(groups[layout.group_at(row, column)]);
            v[e] *= scales[layout.scale_at(row, column)];
        }
        store<N>(y + i, v);
    }

    // Exponents of groups are at least 1.
    __device__ static float power(std::uint8_t exponent) {
        return __uint_as_float(std::uint32_t{exponent} << 23);
    }
};

template <class From>
void launch(const TensorRef& x, const TensorRef& y) {
    dispatch_float(y.type.dtype, [&]<class To>(std::type_identity<To>) {
        for_elements("dequantise", x.type.shape.elements(),
                     Dequantise<From, To>{x.as<From>(), x.scales(), x.groups, y.as<To>(),
                                          x.type.shape.last(), scale_layout(x.type)});
    });
}

}  // namespace

void dequantise(const TensorRef& x, const TensorRef& y) {
    if (x.type.scaling == kPerTensor) {
        return dequantise(x.data, x.type.dtype, x.scales(), y.data, y.type.dtype,
                          x.type.shape.elements());
    }
    if (x.type.dtype == Dtype::e4m3) return launch<e4m3>(x, y);
    launch<e5m2>(x, y);
}

void register_dequantise(KernelRegistry& registry) {
    registry.add<octavo::Dequantise>(
        {"dequantise", takes_all, [](const NodeView&) -> Prepared {
             return {[](const KernelCall& call) { dequantise(call.in[0], call.out[0]); }};
         }});
}

}  // namespace octavo::cuda
