#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

// Eight elements a thread where the rows allow it; blockIdx.y: keys, values.
template <class T, class P, int N>
__global__ void __launch_bounds__(kBlock)
    kv_write_kernel(const T* k, const T* v, const std::int32_t* slots, const float* k_scale,
                    const float* v_scale, P* k_pool, P* v_pool, std::int64_t rows,
                    std::int64_t row_elements) {
    const bool values = blockIdx.y == 1;
    const std::int64_t packets = row_elements / N;
    const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    const std::int64_t row = i / packets, at = i % packets * N;
    if (row >= rows || slots[row] < 0) return;
    compute_t<T> x[N];
    load<N>((values ? v : k) + row * row_elements + at, x);
    if constexpr (std::is_same_v<P, e4m3>) {
        const float inverse = __frcp_rn(values ? *v_scale : *k_scale);
#pragma unroll
        for (int j = 0; j < N; ++j)
            x[j] = static_cast<compute_t<T>>(static_cast<float>(x[j]) * inverse);
    }
    store<N>((values ? v_pool : k_pool) + slots[row] * row_elements + at, x);
}

template <class T, class P>
Prepared prepare_into(const NodeView& node) {
    const bool coded = node.in.size() == 7;
    return {[coded](const KernelCall& call) {
        const Shape& added = call.in[2].type.shape;  // (B, T, G, D)
        const std::int64_t rows = added[0] * added[1], n = added[2] * added[3];
        for (const int i : {0, 1}) {
            copy(call.in[i].data, call.out[i].data, data_bytes(call.in[i].type));
        }
        if (rows * n == 0) return;
        const auto launch = [&]<int N>() {
            const dim3 grid(static_cast<unsigned>(ceil_div(rows * n / N, kBlock)), 2);
            kv_write_kernel<T, P, N><<<grid, kBlock, 0, stream()>>>(
                call.in[2].as<T>(), call.in[3].as<T>(), call.in[4].as<std::int32_t>(),
                coded ? call.in[5].as<float>() : nullptr, coded ? call.in[6].as<float>() : nullptr,
                call.out[0].as<P>(), call.out[1].as<P>(), rows, n);
        };
        n % 8 == 0 ? launch.template operator()<8>() : launch.template operator()<1>();
        launched("kv_write");
    }};
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[2].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return node.in.size() == 7 ? prepare_into<T, e4m3>(node) : prepare_into<T, T>(node);
    });
}

}  // namespace

void register_kv_write(KernelRegistry& registry) {
    registry.add<KvWrite>({"kv_write", takes_all, prepare});
}

}  // namespace octavo::cuda
