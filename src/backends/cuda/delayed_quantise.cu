#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/squares.cuh"
#include "backends/cuda/transpose.h"
#include "backends/quantise_source.h"

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
    first_pass(Source source, std::int64_t n, std::int64_t columns, Slots<Source::kResults> slots) {
    constexpr int kResults = Source::kResults;
    bool needed = false;
    for (int r = 0; r < kResults; ++r) {
        if (blockIdx.x == 0) slots.of[r].copy_history();
        needed |= slots.of[r].just_in_time();
    }
    if (!needed) return;
    std::uint32_t top[kResults] = {};
    over_source<Source>(n, columns, [&]<int N>(const At& at) {
        compute_t<T> v[kResults][N];
        source.get(at, v);
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
    second_pass(Source source, std::int64_t n, std::int64_t columns, Slots<Source::kResults> slots,
                ScaleRule rule) {
    constexpr int kResults = Source::kResults;
    Slot::Basis basis[kResults];
    float k[kResults];
    std::uint32_t top[kResults] = {};
    for (int r = 0; r < kResults; ++r) {
        basis[r] = slots.of[r].basis();
        k[r] = __frcp_rn(slots.of[r].choose_scale(rule, basis[r]));
    }
    over_source<Source>(n, columns, [&]<int N>(const At& at) {
        compute_t<T> v[kResults][N];
        source.get(at, v);
#pragma unroll
        for (int r = 0; r < kResults; ++r) {
            float scaled[N];
            scale_values<N, T>(v[r], k[r], scaled, top[r]);
            store<N>(reinterpret_cast<To*>(slots.of[r].codes) + at.index(), scaled);
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

Slot slot_of(const KernelCall& call, const DelayedQuantise& op, unsigned blocks, std::size_t r) {
    const std::size_t at = history_operand(call.in.size(), r);
    const TensorRef& history = call.in[at];
    const TensorRef& codes = call.out[3 * r];
    const TensorRef* transposed =
        op.transpose ? &call.out[3 * quantised_results(op.of) + r] : nullptr;
    return {.old_history = history.as<float>(),
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

// Whether the transposed copies, if there are any, are written, too.
template <class T, class To, class Source>
bool quantise(const Source& source, const Shape& shape, const Slots<Source::kResults>& slots,
              const ScaleRule& rule) {
    const std::int64_t n = shape.elements(), columns = shape.last();
    first_pass<T><<<static_cast<unsigned>(slots.of[0].blocks), kBlock, 0, stream()>>>(
        source, n, columns, slots);
    launched("delayed_quantise");
    if constexpr (sizeof(To) == 1) {
        if (slots.of[0].transposed && n > 0) {
            const std::int64_t rows = shape.rows();
            second_pass_transposed<T, To><<<tiles_of(rows, columns), kBlock, 0, stream()>>>(
                source, rows, columns, slots, rule);
            launched("delayed_quantise");
            return true;
        }
    }
    // As many blocks as there are packets: with one round each, the last ones do not straggle.
    second_pass<T, To><<<packet_blocks(n, std::int64_t{1} << 30), kBlock, 0, stream()>>>(
        source, n, columns, slots, rule);
    launched("delayed_quantise");
    return false;
}

// Where the values come from: computed on the way, or (`memory`) waiting in scratch.
struct Origin {
    DelayedQuantise op;
    std::size_t operands;
    std::optional<QuantisedSource> memory;
    std::int64_t scratch_bytes;

    explicit Origin(const NodeView& node)
        : op(std::get<DelayedQuantise>(node.op)),
          operands(node.in.size() - 3 * quantised_results(op.of)) {
        const auto types = node.in.first(operands);
        const Dtype dtype = types[0].dtype, to = op.rule.to;
        if (!(op.scaled ? has_scaled_source(op.of, dtype, to) : has_source(op.of, dtype, to))) {
            memory.emplace(kernel_registry(), op.of, op.scaled, types);
            scratch_bytes = memory->scratch_bytes();
        } else {
            scratch_bytes = op.scaled ? inverse_bytes(*op.scaled, types.back()) : 0;
        }
    }

    // f(source, index of its first result), for each source.
    template <class T, class To, class F>
    void with(std::span<const TensorRef> in, std::byte* scratch, F&& f) const {
        if (memory) {
            std::size_t r = 0;
            for (const TensorRef& x : memory->values(in, scratch)) {
                f(ValueSource<T>{x.as<T>()}, r++);
            }
            return;
        }
        const auto whole = [&](const auto& source) { f(source, 0); };
        if constexpr (std::is_same_v<T, bf16>) {
            if (!op.scaled) return with_source<T, To>(op.of, in, whole);
            if constexpr (sizeof(To) == 1) {
                with_scaled_source(op.of, *op.scaled, in, scratch, whole);
            }
        } else {
            whole(ValueSource<T>{in[0].as<T>()});
        }
    }
};

Refusal reject(const NodeView& node) {
    return std::get<DelayedQuantise>(node.op).transpose ? reject_tall(node.in[0]) : std::nullopt;
}

template <class T, class To>
Prepared prepare_as(const NodeView& node) {
    ScratchCounter scratch;
    const Origin origin(node);
    const unsigned blocks = packet_blocks(node.out[0].shape.elements(), kFirstPassBlocks);
    const std::size_t results = quantised_results(origin.op.of);
    scratch.reserve(static_cast<std::int64_t>(results * blocks * sizeof(std::uint32_t)));  // tops
    const std::int64_t origin_at = scratch.reserve(origin.scratch_bytes);
    const auto run = [origin, origin_at, blocks, results](const KernelCall& call) {
        const DelayedQuantise& op = origin.op;
        const Shape& shape = call.out[0].type.shape;
        bool transposed = true;
        const auto each = [&]<class Source>(const Source& source, std::size_t r) {
            Slots<Source::kResults> slots;
            for (Slot& slot : slots.of) slot = slot_of(call, op, blocks, r++);
            transposed &= quantise<T, To>(source, shape, slots, op.rule);
        };
        origin.with<T, To>(call.in.first(origin.operands), call.scratch + origin_at, each);
        for (std::size_t r = 0; op.transpose && !transposed && r < results; ++r) {
            transpose(call.out[3 * r], call.out[3 * results + r]);
        }
    };
    return {run, scratch.bytes()};
}

Prepared prepare(const NodeView& node) {
    const Dtype to = std::get<DelayedQuantise>(node.op).rule.to;
    return dispatch_plain(node.in[0].dtype, [&]<class T>(std::type_identity<T>) {
        switch (to) {
            case Dtype::e4m3:
                return prepare_as<T, e4m3>(node);
            case Dtype::e5m2:
                return prepare_as<T, e5m2>(node);
            default:
                return prepare_as<T, f16>(node);
        }
    });
}

}  // namespace

void register_delayed_quantise(KernelRegistry& registry) {
    registry.add<DelayedQuantise>({"delayed_quantise", reject, prepare});
}

}  // namespace octavo::cuda
