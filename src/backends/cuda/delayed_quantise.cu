#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/squares.cuh"
#include "backends/cuda/transpose.h"
#include "ops/delayed_quantise.h"

namespace octavo::cuda {
namespace {

constexpr int kFirstPassBlocks = 1056;  // 8 for each multiprocessor of an H100

// ---- Under which scale -------------------------------------------------------------------------

// The state and the results of one quantised tensor, in device memory.
struct Slot {
    const float* old_history;
    float* history;  // may be the old one
    int slots;
    const std::int32_t* counter;
    const float* scale;
    // This tensor's own maxima, one for each block of the first pass, for as long as the window is
    // not filled.
    std::uint32_t* tops;
    int blocks;
    std::uint8_t *codes, *transposed;
    float *codes_scale, *transposed_scale, *used;

    __device__ bool just_in_time() const { return *counter < slots; }
    // By one block.
    __device__ void copy_history() const {
        if (history == old_history) return;
        for (int i = static_cast<int>(threadIdx.x); i < slots; i += kBlock) {
            history[i] = old_history[i];
        }
    }
    // What the scale is chosen from, and the amax so far.
    struct Basis {
        std::int32_t count;
        float scale;
        std::uint32_t noted;
    };
    // To be read before the elements: a wait for one after the other is what a tile takes as long
    // for.
    __device__ Basis basis() const {
        return {*counter, *scale, __ldcg(reinterpret_cast<const std::uint32_t*>(history))};
    }
    __device__ float own_amax() const {
        std::uint32_t top = 0;
        // The elements are in registers by now, which leaves few.
#pragma unroll 1
        for (int i = static_cast<int>(threadIdx.x) % kWarp; i < blocks; i += kWarp) {
            top = max(top, tops[i]);
        }
        return __uint_as_float(warp_max(top));
    }
    // By all threads; one writes it to where it belongs.
    __device__ float choose_scale(const ScaleRule& rule, const Basis& b) const {
        const float chosen = b.count < slots ? next_scale(rule, own_amax(), b.scale) : b.scale;
        if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
            *codes_scale = chosen;
            *used = chosen;
            if (transposed_scale) *transposed_scale = chosen;
        }
        return chosen;
    }
    // Straight into slot 0 of the history: magnitudes order like their bits, and NaN counts as
    // infinity. Signed, so that a negative number counts as less.
    __device__ void note_amax(std::uint32_t top, const Basis& b) const {
        constexpr std::uint32_t kInfinity = 0x7F800000;
        const auto noted = static_cast<int>(min(warp_max(top), kInfinity));
        if (threadIdx.x % kWarp == 0 && static_cast<int>(b.noted) < noted) {
            atomicMax(reinterpret_cast<int*>(history), noted);
        }
    }
};

template <int Results>
struct Slots {
    Slot of[Results];
};

// ---- The passes --------------------------------------------------------------------------------

// Takes over the histories, and the amaxes for as long as a window is not filled.
template <class T, class Source>
__global__ void __launch_bounds__(kBlock)
    first_pass(Source source, std::int64_t n, Slots<Source::kResults> slots) {
    constexpr int kResults = Source::kResults;
    bool needed = false;
    for (int r = 0; r < kResults; ++r) {
        if (blockIdx.x == 0) slots.of[r].copy_history();
        needed |= slots.of[r].just_in_time();
    }
    if (!needed) return;
    std::uint32_t top[kResults] = {};
    for_packets(n, [&]<int N>(std::int64_t i) {
        compute_t<T> v[kResults][N];
        source.get(i, v);
#pragma unroll
        for (int r = 0; r < kResults; ++r) {
#pragma unroll
            for (int k = 0; k < N; ++k) top[r] = max(top[r], magnitude_bits(v[r][k]));
        }
    });
    for (int r = 0; r < kResults; ++r) {
        const std::uint32_t block_top = block_max(top[r]);
        if (threadIdx.x == 0) slots.of[r].tops[blockIdx.x] = block_top;
    }
}

template <int N, class T>
__device__ inline void scale_values(const compute_t<T> (&v)[N], float k, float (&scaled)[N],
                                    std::uint32_t& top) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
        top = max(top, magnitude_bits(v[e]));
        scaled[e] = static_cast<float>(v[e]) * k;
    }
}

template <class T, class To, class Source>
__global__ void __launch_bounds__(kBlock)
    second_pass(Source source, std::int64_t n, Slots<Source::kResults> slots, ScaleRule rule) {
    constexpr int kResults = Source::kResults;
    Slot::Basis basis[kResults];
    float k[kResults];
    std::uint32_t top[kResults] = {};
    for (int r = 0; r < kResults; ++r) {
        basis[r] = slots.of[r].basis();
        k[r] = __frcp_rn(slots.of[r].choose_scale(rule, basis[r]));
    }
    for_packets(n, [&]<int N>(std::int64_t i) {
        compute_t<T> v[kResults][N];
        source.get(i, v);
#pragma unroll
        for (int r = 0; r < kResults; ++r) {
            float scaled[N];
            scale_values<N, T>(v[r], k[r], scaled, top[r]);
            store<N>(reinterpret_cast<To*>(slots.of[r].codes) + i, scaled);
        }
    });
    for (int r = 0; r < kResults; ++r) slots.of[r].note_amax(top[r], basis[r]);
}

// The same for FP8 codes that are wanted transposed, too.
template <class T, class To, class Source>
__global__ void __launch_bounds__(kBlock, kBlocks<T, Source>)
    second_pass_transposed(Source source, std::int64_t m, std::int64_t n,
                           const __grid_constant__ Slots<Source::kResults> slots, ScaleRule rule) {
    Slot::Basis basis[Source::kResults];
#pragma unroll
    for (int r = 0; r < Source::kResults; ++r) basis[r] = slots.of[r].basis();
    const Place at(m, n, blockIdx.x, blockIdx.y);
    Square<T> squares[Source::kResults];
    load_squares<T>(source, at, squares);
#pragma unroll
    for (int r = 0; r < Source::kResults; ++r) {
        const Slot& slot = slots.of[r];
        const float k = __frcp_rn(slot.choose_scale(rule, basis[r]));
        write_square<To>(squares[r], at, slot.codes, slot.transposed, k);
        slot.note_amax(squares[r].top(), basis[r]);
    }
}

// ---- Launching ---------------------------------------------------------------------------------

template <int Results>
Slots<Results> slots_of(const KernelCall& call, bool transpose, unsigned blocks) {
    Slots<Results> slots;
    for (std::size_t r = 0; r < Results; ++r) {
        const std::size_t at = history_operand(call.in.size(), r);
        const TensorRef& history = call.in[at];
        const TensorRef& codes = call.out[3 * r];
        const TensorRef* transposed = transpose ? &call.out[3 * Results + r] : nullptr;
        slots.of[r] = {.old_history = history.as<float>(),
                       .history = call.out[3 * r + 1].as<float>(),
                       .slots = static_cast<int>(history.type.shape[0]),
                       .counter = call.in[at + 1].as<std::int32_t>(),
                       .scale = call.in[at + 2].as<float>(),
                       .tops = reinterpret_cast<std::uint32_t*>(call.scratch) + r * blocks,
                       .blocks = static_cast<int>(blocks),
                       .codes = codes.as<std::uint8_t>(),
                       .transposed = transposed ? transposed->as<std::uint8_t>() : nullptr,
                       .codes_scale = codes.scales(),
                       .transposed_scale = transposed ? transposed->scales() : nullptr,
                       .used = call.out[3 * r + 2].as<float>()};
    }
    return slots;
}

template <class T, class To, class Source>
void quantise(const KernelCall& call, const DelayedQuantise& op, const Source& source) {
    constexpr int kResults = Source::kResults;
    const Shape& shape = call.out[0].type.shape;
    const std::int64_t n = shape.elements();
    const unsigned blocks = packet_blocks(n, kFirstPassBlocks);
    const Slots<kResults> slots = slots_of<kResults>(call, op.transpose, blocks);
    first_pass<T><<<blocks, kBlock, 0, stream()>>>(source, n, slots);
    launched("delayed_quantise");
    if constexpr (sizeof(To) == 1) {
        if (op.transpose && n > 0) {
            const std::int64_t rows = shape.rows(), columns = shape.last();
            second_pass_transposed<T, To><<<tiles_of(rows, columns), kBlock, 0, stream()>>>(
                source, rows, columns, slots, op.rule);
            launched("delayed_quantise");
            return;
        }
    }
    // As many blocks as there are packets: with one round each, the last ones do not straggle.
    second_pass<T, To><<<packet_blocks(n, std::int64_t{1} << 30), kBlock, 0, stream()>>>(
        source, n, slots, op.rule);
    launched("delayed_quantise");
    for (std::size_t r = 0; op.transpose && r < kResults; ++r) {
        transpose(call.out[3 * r], call.out[3 * kResults + r]);
    }
}

Refusal reject(const NodeView& node) {
    return std::get<DelayedQuantise>(node.op).transpose ? reject_tall(node.in[0]) : std::nullopt;
}

Prepared prepare(const NodeView& node) {
    const DelayedQuantise op = std::get<DelayedQuantise>(node.op);
    return dispatch_plain(node.in[0].dtype, [&]<class T>(std::type_identity<T>) -> Prepared {
        const auto with = [&]<class To>(std::type_identity<To>) {
            return Prepared{[op](const KernelCall& call) {
                                with_source<T>(op.of, call.in, [&](const auto& source) {
                                    quantise<T, To>(call, op, source);
                                });
                            },
                            2 * kFirstPassBlocks * sizeof(std::uint32_t)};
        };
        switch (op.rule.to) {
            case Dtype::e4m3:
                return with(std::type_identity<e4m3>{});
            case Dtype::e5m2:
                return with(std::type_identity<e5m2>{});
            default:
                return with(std::type_identity<f16>{});
        }
    });
}

}  // namespace

void register_delayed_quantise(KernelRegistry& registry) {
    registry.add<DelayedQuantise>({"delayed_quantise", reject, prepare});
}

}  // namespace octavo::cuda
