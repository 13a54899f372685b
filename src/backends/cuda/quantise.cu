#include "backends/cuda/convert.h"
#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/squares.cuh"
#include "backends/cuda/transpose.h"
#include "base/stochastic.h"

namespace octavo::cuda {
namespace {

// Codes under a scale, decoded.
template <class From>
struct DecodedSource {
    static constexpr int kResults = 1;
    const From* x;
    const float* scale;

    template <int N>
    __device__ void get(const At& at, float (&v)[1][N]) const {
        load<N>(x + at.index(), v[0]);
#pragma unroll
        for (float& each : v[0]) each *= *scale;
    }
};

// FP8 codes that go out transposed, and perhaps as they lie (y may be null), from values of T.
template <class T, class To, class Source>
__global__ void __launch_bounds__(kBlock, kBlocks<T, Source>)
    quantise_transposed_kernel(Source source, const float* scale, std::uint8_t* y,
                               std::uint8_t* transposed, std::int64_t m, std::int64_t n) {
    const float k = __frcp_rn(*scale);
    const Place at(m, n, blockIdx.x, blockIdx.y);
    Square<T> square[1];
    load_squares<T>(source, at, square);
    write_square<To>(square[0], at, y, transposed, k);
}

// f<T>(source) for dtypes that are quantised and transposed at once; whether this one is.
template <class F>
bool with_values(const TensorRef& x, F&& f) {
    switch (x.type.dtype) {
        case Dtype::f32:
            f.template operator()<float>(ValueSource<float>{x.as<float>()});
            return true;
        case Dtype::bf16:
            f.template operator()<bf16>(ValueSource<bf16>{x.as<bf16>()});
            return true;
        case Dtype::f16:
            if (!x.scale) return false;
            f.template operator()<float>(DecodedSource<f16>{x.as<f16>(), x.scales()});
            return true;
        default:
            return false;
    }
}

// Whether it ran.
bool quantise_transposed(const TensorRef& x, const float* scale, std::uint8_t* y,
                         const TensorRef& transposed) {
    const std::int64_t m = x.type.shape.rows(), n = x.type.shape.last();
    if (m * n == 0 || !is_fp8(transposed.type.dtype)) return false;
    return with_values(x, [&]<class T>(const auto& source) {
        const auto to = [&]<class To>(std::type_identity<To>) {
            quantise_transposed_kernel<T, To><<<tiles_of(m, n), kBlock, 0, stream()>>>(
                source, scale, y, transposed.as<std::uint8_t>(), m, n);
        };
        if (transposed.type.dtype == Dtype::e4m3) {
            to(std::type_identity<e4m3>{});
        } else {
            to(std::type_identity<e5m2>{});
        }
        launched("quantise");
    });
}

void quantise_rows(const TensorRef& x, const float* scale, const TensorRef& y) {
    const std::int64_t n = x.type.shape.elements();
    if (x.scale) {
        requantise(x.data, x.type.dtype, x.scales(), scale, y.data, y.type.dtype, n);
    } else {
        quantise(x.data, x.type.dtype, scale, y.data, y.type.dtype, n);
    }
}

// Codes that are rounded up or down at random.
template <class T, class To>
struct QuantiseAtRandom {
    const T* x;
    const float* scale;
    const std::int32_t* draw;
    CastNoise noise;
    To* y;

    template <int N>
    __device__ void run(std::int64_t i) const {
        const StateNoise random{noise.seed, noise.tensor, static_cast<std::uint32_t>(*draw)};
        const float k = __frcp_rn(*scale);
        compute_t<T> v[N];
        load<N>(x + i, v);
        float rounded[N];
        PhiloxBlock words{};
#pragma unroll
        for (int j = 0; j < N; ++j) {
            if (j % 4 == 0) {
                words = random(kOutputGradient, static_cast<std::uint64_t>((i + j) / 4));
            }
            const std::uint32_t word = words[N == 1 ? i % 4 : j % 4];
            rounded[j] = round_stochastically_to<To>(static_cast<float>(v[j]) * k, word);
        }
        store<N>(y + i, rounded);
    }
};

template <class T, class To>
Prepared prepare_at_random(const CastNoise& noise) {
    return {[noise](const KernelCall& call) {
        const TensorRef &x = call.in[0], &y = call.out[0];
        const auto* scale = call.in[1].as<float>();
        copy(scale, y.scale, sizeof(float));
        const QuantiseAtRandom<T, To> body{x.as<T>(), scale, call.in[2].as<std::int32_t>(), noise,
                                           y.as<To>()};
        for_elements("quantise", x.type.shape.elements(), body);
    }};
}

Prepared prepare_at_random(const NodeView& node) {
    const auto& op = std::get<Quantise>(node.op);
    return dispatch_plain(node.in[0].dtype, [&]<class T>(std::type_identity<T>) {
        return op.to == Dtype::e4m3 ? prepare_at_random<T, e4m3>(*op.noise)
                                    : prepare_at_random<T, e5m2>(*op.noise);
    });
}

Refusal reject(const NodeView& node) {
    const bool turns = std::get<Quantise>(node.op).copies != Copies::rows;
    return turns ? reject_tall(node.in[0]) : std::nullopt;
}

Prepared prepare(const NodeView& node) {
    if (std::get<Quantise>(node.op).noise) return prepare_at_random(node);
    const Copies copies = std::get<Quantise>(node.op).copies;
    const Type& x = node.in[0];
    const Type rows{node.out[0].dtype, x.shape, kPerTensor};
    // Of what is not quantised and turned at once.
    const std::int64_t scratch = copies == Copies::columns ? total_bytes(rows) : 0;
    const auto run = [copies, rows](const KernelCall& call) {
        const TensorRef& x = call.in[0];
        const float* scale = call.in[1].as<float>();
        for (const TensorRef& y : call.out) copy(scale, y.scale, sizeof(float));
        if (copies == Copies::rows) return quantise_rows(x, scale, call.out[0]);
        const bool both = copies == Copies::both;
        const TensorRef& transposed = call.out.back();
        auto* const codes = both ? call.out[0].as<std::uint8_t>() : nullptr;
        if (quantise_transposed(x, scale, codes, transposed)) return;
        const TensorRef y = both ? call.out[0] : tensor_at(rows, call.scratch);
        if (!both) copy(scale, y.scale, sizeof(float));
        quantise_rows(x, scale, y);
        transpose(y, transposed);
    };
    return {run, scratch};
}

}  // namespace

void register_quantise(KernelRegistry& registry) {
    registry.add<Quantise>({"quantise", reject, prepare});
}

}  // namespace octavo::cuda
