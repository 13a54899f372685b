// Two kernels: one writes codes under the guess and finds the amax, the other has the scale of it,
// and writes the codes again where that is another.
#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/squares.cuh"
#include "backends/cuda/transpose.h"
#include "backends/quantise_source.h"

namespace octavo::cuda {
namespace {

struct Codes {
    std::uint8_t *y, *transposed;  // null if there is none
    float *y_scale, *transposed_scale, *scale;
    const float* guess;
    std::uint32_t* top;  // the amax, as bits
};

template <class T, class To, class Source>
__global__ void __launch_bounds__(kBlock, kBlocks<T, Source>)
    guess_kernel(Source source, std::int64_t m, std::int64_t n, const __grid_constant__ Codes to) {
    // Both before the elements: a tile takes as long as its waits, one after the other.
    const float guess = *to.guess;
    const std::uint32_t noted = __ldcg(to.top);
    const Place at(m, n, blockIdx.x, blockIdx.y);
    Square<T> square[1];
    load_squares<T>(source, at, square);
    write_square<To>(square[0], at, to.y, to.transposed, __frcp_rn(guess));
    const std::uint32_t top = warp_max(square[0].top());
    if (threadIdx.x % kWarp == 0 && noted < top) atomicMax(to.top, top);
}

// Blocks take the tiles in turn: there are few, since most often there is nothing to do.
template <class T, class To, class Source>
__global__ void __launch_bounds__(kBlock, kBlocks<T, Source>)
    settle_kernel(Source source, std::int64_t m, std::int64_t n, const __grid_constant__ Codes to,
                  ScaleRule rule) {
    const float amax = __uint_as_float(*to.top), guess = *to.guess;
    const float scale = next_scale(rule, amax, isfinite(amax) ? 1.0f : NAN);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        *to.y_scale = scale;
        *to.scale = scale;
        if (to.transposed) *to.transposed_scale = scale;
    }
    if (scale == guess) return;
    const std::int64_t across = (n + kTile - 1) / kTile, tiles = (m + kTile - 1) / kTile * across;
    for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const Place at(m, n, tile % across, tile / across);
        Square<T> square[1];
        load_squares<T>(source, at, square);
        write_square<To>(square[0], at, to.y, to.transposed, __frcp_rn(scale));
    }
}

template <class T, class To, class Source>
void quantise(const CurrentQuantise& op, const Source& source, const KernelCall& call) {
    const Shape& shape = call.out[0].type.shape;
    const std::int64_t m = shape.rows(), n = shape.last();
    const TensorRef* const transposed = op.transpose ? &call.out[2] : nullptr;
    const Codes to{.y = call.out[0].as<std::uint8_t>(),
                   .transposed = transposed ? transposed->as<std::uint8_t>() : nullptr,
                   .y_scale = call.out[0].scales(),
                   .transposed_scale = transposed ? transposed->scales() : nullptr,
                   .scale = call.out[1].as<float>(),
                   .guess = call.in.back().as<float>(),
                   .top = reinterpret_cast<std::uint32_t*>(call.scratch)};
    clear(to.top, sizeof(std::uint32_t));
    const dim3 tiles = tiles_of(m, n);
    if (m * n > 0) guess_kernel<T, To><<<tiles, kBlock, 0, stream()>>>(source, m, n, to);
    const auto most = static_cast<unsigned>(2 * device().multiprocessors());
    const unsigned blocks = std::clamp(tiles.x * tiles.y, 1u, most);
    settle_kernel<T, To><<<blocks, kBlock, 0, stream()>>>(source, m, n, to, op.rule);
    launched("current_quantise");
}

// up / s under a SwiGLU, the one source with factors that is computed on the way.
template <class X>
struct SmoothSource {
    static constexpr int kResults = 1;
    const bf16* gate;
    X up;

    template <int N>
    __device__ void get(const At& at, float (&v)[1][N]) const {
        float g[N];
        load<N>(gate + at.index(), g);
        up.get(at, v[0]);
#pragma unroll
        for (int k = 0; k < N; ++k) v[0][k] = SwiGluFunction{}(g[k], v[0][k]);
        round_values<bf16>(v[0]);
    }
};

bool on_the_way(const CurrentQuantise& op, Dtype from) {
    if (!op.scaled) return has_source(op.of, from, op.rule.to);
    return op.of == QuantiseSource::swiglu && from == Dtype::bf16 && op.rule.to == Dtype::e4m3 &&
           op.scaled->inverse;
}

template <class T, class To>
void run_source(const CurrentQuantise& op, const KernelCall& call, std::byte* scratch) {
    const auto each = [&]<class Source>(const Source& source) {
        if constexpr (Source::kResults == 1) quantise<T, To>(op, source, call);
    };
    if constexpr (std::is_same_v<T, bf16>) {
        if (!op.scaled) return with_source<T, To>(op.of, call.in.first(call.in.size() - 1), each);
        if constexpr (std::is_same_v<To, e4m3>) {
            const auto* const gate = call.in[0].as<bf16>();
            const auto* const up = call.in[1].as<bf16>();
            auto* const inverse = reinterpret_cast<float*>(scratch);
            for_elements("scale_along", call.in[2].type.shape.elements(),
                         Inverse{call.in[2].as<float>(), inverse});
            if (op.scaled->axis == Axis::row) {
                return each(SmoothSource<ScaledOperand<bf16, true>>{gate, {up, inverse}});
            }
            each(SmoothSource<ScaledOperand<bf16, false>>{gate, {up, inverse}});
        }
    } else {
        each(ValueSource<T>{call.in[0].as<T>()});
    }
}

Refusal reject(const NodeView& node) { return reject_tall(node.in[0]); }

template <class T>
Prepared prepare_as(const NodeView& node) {
    const auto op = std::get<CurrentQuantise>(node.op);
    const auto operands = node.in.first(node.in.size() - 1);
    ScratchCounter scratch;
    scratch.reserve(sizeof(std::uint32_t));  // Codes::top
    std::optional<QuantisedSource> memory;
    std::int64_t bytes = op.scaled ? inverse_bytes(*op.scaled, operands.back()) : 0;
    if (!on_the_way(op, operands[0].dtype)) {
        memory.emplace(kernel_registry(), op.of, op.scaled, operands);
        bytes = memory->scratch_bytes();
    }
    const std::int64_t at = scratch.reserve(bytes);
    const auto run = [op, memory, at](const KernelCall& call) {
        std::vector<TensorRef> in(call.in.begin(), call.in.end());
        CurrentQuantise now = op;
        if (memory) {
            in = memory->values(call.in.first(call.in.size() - 1), call.scratch + at);
            in.push_back(call.in.back());
            now.of = QuantiseSource::value;
            now.scaled = {};
        }
        const KernelCall of{in, call.out, call.scratch};
        if (now.rule.to == Dtype::e4m3) return run_source<T, e4m3>(now, of, call.scratch + at);
        run_source<T, e5m2>(now, of, call.scratch + at);
    };
    return {run, scratch.bytes()};
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype,
                          [&]<class T>(std::type_identity<T>) { return prepare_as<T>(node); });
}

}  // namespace

void register_current_quantise(KernelRegistry& registry) {
    registry.add<CurrentQuantise>({"current_quantise", reject, prepare});
}

}  // namespace octavo::cuda
