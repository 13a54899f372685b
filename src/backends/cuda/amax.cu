#include "backends/cuda/scaling.cuh"

namespace octavo::cuda {
namespace {

constexpr int kAmaxBlocks = 1056;  // 8 for each multiprocessor of an H100

template <class T>
__global__ void __launch_bounds__(kBlock)
    amax_kernel(const T* x, const float* scale, std::int64_t n, float* amax) {
    const compute_t<T> s = scale ? *scale : 1.0f;
    std::uint32_t top = 0;
    for_packets(n, [&]<int N>(std::int64_t i) {
        compute_t<T> v[N];
        load<N>(x + i, v);
#pragma unroll
        for (int k = 0; k < N; ++k) top = max(top, magnitude_bits(v[k] * s));
    });
    raise_to_block_max(amax, top);
}

void amax(const KernelCall& call) {
    const TensorRef& x = call.in[0];
    float* top = call.out[0].as<float>();
    clear(top, sizeof(float));
    const std::int64_t n = x.type.shape.elements();
    if (n == 0) return;
    dispatch_float(x.type.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        amax_kernel<<<packet_blocks(n, kAmaxBlocks), kBlock, 0, stream()>>>(x.as<T>(), x.scales(),
                                                                            n, top);
        launched("amax");
    });
}

Prepared prepare(const NodeView&) { return {amax}; }

}  // namespace

void register_amax(KernelRegistry& registry) { registry.add<Amax>({"amax", takes_all, prepare}); }

}  // namespace octavo::cuda
