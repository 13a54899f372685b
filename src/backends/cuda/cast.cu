#include "backends/cuda/convert.h"
#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/squares.cuh"
#include "backends/cuda/transpose.h"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

// FP8 codes that go out twice.
template <class T, class To>
__global__ void __launch_bounds__(kBlock, kBlocks<T, ValueSource<T>>)
    cast_transposed_kernel(ValueSource<T> x, std::uint8_t* y, std::uint8_t* transposed,
                           std::int64_t m, std::int64_t n, float factor) {
    const Place at(m, n, blockIdx.x, blockIdx.y);
    Square<T> square[1];
    load_squares<T>(x, at, square);
    write_square<To>(square[0], at, y, transposed, factor);
}

// Whether it ran.
bool cast_transposed(const TensorRef& x, const TensorRef& y, const TensorRef& transposed,
                     float factor) {
    const std::int64_t m = x.type.shape.rows(), n = x.type.shape.last();
    if (m * n == 0 || !is_fp8(y.type.dtype) || x.type.dtype == Dtype::f64) return false;
    const auto to = [&]<class T, class To>(std::type_identity<T>, std::type_identity<To>) {
        cast_transposed_kernel<T, To><<<tiles_of(m, n), kBlock, 0, stream()>>>(
            ValueSource<T>{x.as<T>()}, y.as<std::uint8_t>(), transposed.as<std::uint8_t>(), m, n,
            factor);
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
