#include "backends/cuda/scaling.cuh"
#include "backends/cuda/scaling.h"

namespace octavo::cuda {
namespace {

constexpr int kAmaxBlocks = 1056;  // 8 for each multiprocessor of an H100

template <class T>
__global__ void __launch_bounds__(kBlock) amax_kernel(const T* x, std::int64_t n, float* amax) {
    std::uint32_t top = 0;
    for_packets(n, [&]<int N>(std::int64_t i) {
        compute_t<T> v[N];
        load<N>(x + i, v);
#pragma unroll
        for (int k = 0; k < N; ++k) top = max(top, magnitude_bits(v[k]));
    });
    raise_to_block_max(amax, top);
}

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) { tensor_amax(call.in[0], call.out[0].as<float>()); }};
}

}  // namespace

void tensor_amax(const TensorRef& x, float* amax) {
    expect(cudaMemsetAsync(amax, 0, sizeof(float), stream()), "memset");
    const std::int64_t n = x.type.shape.elements();
    if (n == 0) return;
    dispatch_float(x.type.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        amax_kernel<<<packet_blocks(n, kAmaxBlocks), kBlock, 0, stream()>>>(x.as<T>(), n, amax);
        launched("amax");
    });
}

void register_amax(KernelRegistry& registry) { registry.add<Amax>({"amax", takes_all, prepare}); }

}  // namespace octavo::cuda
