#include "backends/cuda/convert.h"
#include "backends/cuda/transpose.cuh"
#include "backends/cuda/transpose.h"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

// An FP8 matrix with extents that are multiples of 16, a tile of which goes out twice.
template <class T, class To>
__global__ void __launch_bounds__(kBlock)
    cast_transposed_kernel(const T* x, std::uint8_t* y, std::uint8_t* transposed, std::int64_t m,
                           std::int64_t n, float factor) {
    constexpr int kPackets = kByteTile / kPacket;
    __shared__ ByteTile tile;
    const std::int64_t column0 = std::int64_t{blockIdx.x} * kByteTile;
    const std::int64_t row0 = std::int64_t{blockIdx.y} * kByteTile;
    for (int i = static_cast<int>(threadIdx.x); i < kByteTile * kPackets; i += kBlock) {
        const int row = i / kPackets, packet = i % kPackets;
        const std::int64_t at = (row0 + row) * n + column0 + packet * kPacket;
        if (row0 + row >= m || column0 + packet * kPacket >= n) continue;
        float v[kPacket];
        load<kPacket>(x + at, v);
#pragma unroll
        for (int k = 0; k < kPacket; ++k) v[k] *= factor;
        const uint2 codes = encode_packet<To>(v);
        *reinterpret_cast<uint2*>(y + at) = codes;
        tile.words[row][packet * 2] = codes.x;
        tile.words[row][packet * 2 + 1] = codes.y;
    }
    __syncthreads();
    store_transposed(tile, transposed, m, n, row0, column0);
}

// Whether it ran.
bool cast_transposed(const TensorRef& x, const TensorRef& y, const TensorRef& transposed,
                     float factor) {
    const std::int64_t m = x.type.shape.rows(), n = x.type.shape.last();
    const bool tiled = m * n > 0 && m % 16 == 0 && n % 16 == 0;
    if (!tiled || !is_fp8(y.type.dtype) || x.type.dtype == Dtype::f64) return false;
    const dim3 tiles(static_cast<unsigned>(ceil_div(n, kByteTile)),
                     static_cast<unsigned>(ceil_div(m, kByteTile)));
    const auto to = [&]<class T, class To>(std::type_identity<T>, std::type_identity<To>) {
        cast_transposed_kernel<T, To><<<tiles, kBlock, 0, stream()>>>(
            x.as<T>(), y.as<std::uint8_t>(), transposed.as<std::uint8_t>(), m, n, factor);
    };
    const auto from = [&](auto type) {
        if (y.type.dtype == Dtype::e4m3) {
            to(type, std::type_identity<e4m3>{});
        } else {
            to(type, std::type_identity<e5m2>{});
        }
    };
    switch (x.type.dtype) {
        case Dtype::f32:
            from(std::type_identity<float>{});
            break;
        case Dtype::bf16:
            from(std::type_identity<bf16>{});
            break;
        default:
            from(std::type_identity<f16>{});
    }
    launched("cast");
    return true;
}

Refusal reject(const NodeView& node) {
    return std::get<Cast>(node.op).transpose ? reject_tall(node.in[0]) : std::nullopt;
}

Prepared prepare(const NodeView& node) {
    const float factor = power_of_two(std::get<Cast>(node.op).exponent);
    return {[factor](const KernelCall& call) {
        const TensorRef &x = call.in[0], &y = call.out[0];
        const bool both = call.out.size() == 2;
        if (both && cast_transposed(x, y, call.out[1], factor)) return;
        convert(x.data, x.type.dtype, y.data, y.type.dtype, x.type.shape.elements(), factor);
        if (both) transpose(y, call.out[1]);
    }};
}

}  // namespace

void register_cast(KernelRegistry& registry) { registry.add<Cast>({"cast", reject, prepare}); }

}  // namespace octavo::cuda
