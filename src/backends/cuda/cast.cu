#include "backends/cuda/convert.h"
#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/source_in_parts.h"
#include "backends/cuda/squares.cuh"
#include "backends/cuda/transpose.h"
#include "base/scale_rule.h"
#include "ops/delayed_quantise.h"

namespace octavo::cuda {
namespace {

// Where the codes of a source's results go, and by what they are multiplied.
template <int kResults>
struct Targets {
    std::uint8_t *y[kResults], *transposed[kResults];  // null if there is none
    float factor[kResults];
};

template <class T, class To, class Source>
__global__ void __launch_bounds__(kBlock, kBlocks<T, Source>)
    cast_kernel(Source source, std::int64_t m, std::int64_t n,
                const __grid_constant__ Targets<Source::kResults> to) {
    const Place at(m, n, blockIdx.x, blockIdx.y);
    Square<T> squares[Source::kResults];
    load_squares<T>(source, at, squares);
#pragma unroll
    for (int r = 0; r < Source::kResults; ++r) {
        write_square<To>(squares[r], at, to.y[r], to.transposed[r], to.factor[r]);
    }
}

template <class T, class To, class Source>
void launch(const KernelCall& call, const Cast& op, const Source& source) {
    constexpr std::size_t kResults = Source::kResults;
    Targets<Source::kResults> to;
    const std::size_t copies = op.transpose ? 2 : 1;
    for (std::size_t k = 0; k < kResults; ++k) {
        to.y[k] = call.out[k * copies].as<std::uint8_t>();
        to.transposed[k] = op.transpose ? call.out[k * copies + 1].as<std::uint8_t>() : nullptr;
        to.factor[k] = power_of_two(cast_exponent(op, k));
    }
    const Type& x = call.in[0].type;
    const std::int64_t m = x.shape.rows(), n = source_columns(op.of, x);
    if (m * n == 0) return;
    cast_kernel<T, To><<<tiles_of(m, n), kBlock, 0, stream()>>>(source, m, n, to);
    launched("cast");
}

// FP8 codes of a source's results, or of values that go out twice.
template <class T, class To>
Prepared prepare_as(const Cast& op) {
    return {[op](const KernelCall& call) {
        const auto each = [&](const auto& source) { launch<T, To>(call, op, source); };
        if constexpr (sizeof(T) == 2) {
            with_source<T, To>(op.of, call.in, each, power_of_two(op.source_exponent));
        } else {
            each(ValueSource<T>{call.in[0].as<T>()});
        }
    }};
}

template <class T>
Prepared prepare_codes(const Cast& op) {
    return op.to == Dtype::e4m3 ? prepare_as<T, e4m3>(op) : prepare_as<T, e5m2>(op);
}

// As bf16 is, f16 is computed on the way, but for norms.
bool on_the_way(const Cast& op, Dtype from) {
    if (from != Dtype::f16) return has_source(op.of, from, op.to);
    return op.of != QuantiseSource::normalise && has_source(op.of, Dtype::bf16, op.to);
}

Refusal reject(const NodeView& node) {
    const auto& op = std::get<Cast>(node.op);
    const bool tiles = op.transpose || op.of != QuantiseSource::value;
    return tiles ? reject_tall(node.in[0]) : std::nullopt;
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<Cast>(node.op);
    const Dtype from = node.in[0].dtype;
    const bool value = op.of == QuantiseSource::value;
    if (!on_the_way(op, from)) {
        std::vector<Op> casts;
        for (std::size_t k = 0; k < quantised_results(op.of); ++k) {
            casts.push_back(
                Cast{.to = op.to, .exponent = cast_exponent(op, k), .transpose = op.transpose});
        }
        return prepare_in_parts(node, op.of, casts, op.source_exponent);
    }
    if (!value || (op.transpose && is_fp8(op.to))) {
        if (from == Dtype::bf16) return prepare_codes<bf16>(op);
        if (from == Dtype::f16) return prepare_codes<f16>(op);
        if (from == Dtype::f32) return prepare_codes<float>(op);
    }
    return {[op, factor = power_of_two(op.exponent)](const KernelCall& call) {
        const TensorRef &x = call.in[0], &y = call.out[0];
        convert(x.data, x.type.dtype, y.data, y.type.dtype, x.type.shape.elements(), factor);
        if (op.transpose) transpose(y, call.out[1]);
    }};
}

}  // namespace

void register_cast(KernelRegistry& registry) { registry.add<Cast>({"cast", reject, prepare}); }

}  // namespace octavo::cuda
