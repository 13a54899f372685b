#include "backends/cuda/squares.cuh"
#include "backends/cuda/transpose.h"
#include "backends/followed_by.h"
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
    __device__ SumFactors factors() const {
        return sum_factors(op, *a_scale, *b_scale, *a_size, *b_size);
    }
    template <int N>
    __device__ void sums(std::int64_t i, const SumFactors& f, compute_t<T> (&x)[N]) const {
        using C = compute_t<T>;
        C y[N];
        load<N>(a + i, x);
        load<N>(b + i, y);
#pragma unroll
        for (int k = 0; k < N; ++k) x[k] = x[k] * C(f.a) + y[k] * C(f.b);
    }
    template <int N>
    __device__ void run(std::int64_t i) const {
        const SumFactors f = factors();
        if (i == 0) *scale = f.scale;
        compute_t<T> x[N];
        sums(i, f, x);
        store<N>(z + i, x);
    }
};

template <class T>
ScaledSum<T> sum_of(const KernelCall& call, const ScaledAdd& op) {
    const auto scale = [&](std::size_t i) { return call.in[i].as<float>(); };
    return {.a = call.in[0].as<T>(),
            .b = call.in[2].as<T>(),
            .z = call.out[0].as<T>(),
            .a_scale = scale(1),
            .b_scale = scale(3),
            .a_size = scale(4),
            .b_size = scale(5),
            .scale = call.out[1].as<float>(),
            .op = op};
}

// No elements, but their scale.
template <class T>
__global__ void empty_sum_kernel(ScaledSum<T> sum) {
    *sum.scale = sum.factors().scale;
}

Prepared prepare_sum(const NodeView& node) {
    const auto op = std::get<ScaledAdd>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[op](const KernelCall& call) {
            const ScaledSum<T> sum = sum_of<T>(call, op);
            const std::int64_t n = call.out[0].type.shape.elements();
            if (n == 0) empty_sum_kernel<<<1, 1, 0, stream()>>>(sum);
            for_elements("scaled_add", n, sum);
        }};
    });
}

// ---- And its codes -----------------------------------------------------------------------------

template <class T>
struct SumSource {
    static constexpr int kResults = 1;
    const ScaledSum<T>& sum;
    SumFactors f;

    template <int N>
    __device__ void get(const At& at, compute_t<T> (&v)[1][N]) const {
        sum.sums(at.index(), f, v[0]);
        round_values<T>(v[0]);
    }
};

template <class T, class To>
__global__ void __launch_bounds__(kBlock, kBlocks<T, SumSource<T>>)
    sum_codes_kernel(const __grid_constant__ ScaledSum<T> sum, std::int64_t m, std::int64_t n,
                     std::uint8_t* y, std::uint8_t* transposed, float factor) {
    const Place at(m, n, blockIdx.x, blockIdx.y);
    const SumFactors f = sum.factors();
    if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *sum.scale = f.scale;
    Square<T> square[1];
    load_squares<T>(SumSource<T>{sum, f}, at, square);
    // z may lie on an operand: this square of it is read, and no other.
    write_values<T>(square[0], at, sum.z);
    write_square<To>(square[0], at, y, transposed, factor);
}

template <class T>
Prepared prepare_codes(const NodeView& node) {
    const auto op = std::get<ScaledAdd>(node.op);
    const std::int64_t m = node.in[0].shape.rows(), n = node.in[0].shape.last();
    return {[=](const KernelCall& call) {
        const ScaledSum<T> sum = sum_of<T>(call, op);
        auto* const y = call.out[2].as<std::uint8_t>();
        auto* const transposed = op.cast->transpose ? call.out[3].as<std::uint8_t>() : nullptr;
        const float factor = power_of_two(op.cast->exponent);
        if (op.cast->to == Dtype::e4m3) {
            sum_codes_kernel<T, e4m3>
                <<<tiles_of(m, n), kBlock, 0, stream()>>>(sum, m, n, y, transposed, factor);
        } else {
            sum_codes_kernel<T, e5m2>
                <<<tiles_of(m, n), kBlock, 0, stream()>>>(sum, m, n, y, transposed, factor);
        }
        launched("scaled_add");
    }};
}

Refusal reject(const NodeView& node) {
    return std::get<ScaledAdd>(node.op).cast ? reject_tall(node.in[0]) : std::nullopt;
}

Prepared prepare(const NodeView& node) {
    const auto& cast = std::get<ScaledAdd>(node.op).cast;
    if (!cast) return prepare_sum(node);
    const bool codes = is_fp8(cast->to) && node.in[0].shape.elements() > 0;
    if (codes && node.in[0].dtype == Dtype::bf16) return prepare_codes<bf16>(node);
    if (codes && node.in[0].dtype == Dtype::f16) return prepare_codes<f16>(node);
    return followed_by(kernel_registry(), node, prepare_sum(node), 6, 2, *cast);
}

}  // namespace

void register_scaled_add(KernelRegistry& registry) {
    registry.add<ScaledAdd>({"scaled_add", reject, prepare});
}

}  // namespace octavo::cuda
