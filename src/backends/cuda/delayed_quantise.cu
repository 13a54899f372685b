#include "backends/cuda/scaling.cuh"
#include "backends/cuda/transpose.cuh"
#include "backends/cuda/transpose.h"

namespace octavo::cuda {
namespace {

constexpr int kFirstPassBlocks = 1056;  // 8 for each multiprocessor of an H100

struct DelayedState {
    float* history;  // updated in place
    int slots;
    const std::int32_t* counter;
    const float* scale;

    __device__ bool just_in_time() const { return *counter < slots; }
};

// The tensor's own amax, for as long as the window is not filled; nothing afterwards.
template <class T>
__global__ void __launch_bounds__(kBlock)
    first_pass(const T* x, std::int64_t n, DelayedState state, std::uint32_t* amax) {
    if (!state.just_in_time()) return;
    std::uint32_t top = 0;
    for_packets(n, [&]<int N>(std::int64_t i) {
        compute_t<T> v[N];
        load<N>(x + i, v);
#pragma unroll
        for (int k = 0; k < N; ++k) top = max(top, magnitude_bits(v[k]));
    });
    raise_to_block_max(amax, top);
}

// The scale of the codes, written beside them by one thread.
struct Scales {
    ScaleRule rule;
    const float* first_amax;
    float *y, *transposed, *used;  // transposed may be null

    __device__ float choose(const DelayedState& state) const {
        const float scale =
            state.just_in_time() ? next_scale(rule, *first_amax, *state.scale) : *state.scale;
        if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
            *y = scale;
            *used = scale;
            if (transposed) *transposed = scale;
        }
        return scale;
    }
};

// Straight into slot 0 of the history: non-negative floats order like their bits, and NaN counts as
// infinity.
__device__ inline void note_amax(const DelayedState& state, std::uint32_t top) {
    constexpr std::uint32_t kInfinity = 0x7F800000;
    raise_to_block_max(reinterpret_cast<std::uint32_t*>(state.history), min(top, kInfinity));
}

template <int N, class T>
__device__ inline void load_scaled(const T* x, float k, float (&scaled)[N], std::uint32_t& top) {
    compute_t<T> v[N];
    load<N>(x, v);
#pragma unroll
    for (int e = 0; e < N; ++e) {
        top = max(top, magnitude_bits(v[e]));
        scaled[e] = static_cast<float>(v[e]) * k;
    }
}

template <class T, class To>
__global__ void __launch_bounds__(kBlock)
    second_pass(const T* x, std::int64_t n, DelayedState state, Scales scales, To* y) {
    const float k = __frcp_rn(scales.choose(state));
    std::uint32_t top = 0;
    for_packets(n, [&]<int N>(std::int64_t i) {
        float scaled[N];
        load_scaled<N>(x + i, k, scaled, top);
        store<N>(y + i, scaled);
    });
    note_amax(state, top);
}

// The same for a matrix with extents that are multiples of 16, a tile of which goes out twice.
template <class T, class To>
__global__ void __launch_bounds__(kBlock)
    second_pass_transposed(const T* x, std::int64_t m, std::int64_t n, DelayedState state,
                           Scales scales, To* y, To* transposed) {
    __shared__ ByteTile tile;
    const float k = __frcp_rn(scales.choose(state));
    const std::int64_t column0 = std::int64_t{blockIdx.x} * kByteTile;
    const std::int64_t row0 = std::int64_t{blockIdx.y} * kByteTile;
    constexpr int kPackets = kByteTile / kPacket;
    std::uint32_t top = 0;
    for (int i = static_cast<int>(threadIdx.x); i < kByteTile * kPackets; i += kBlock) {
        const int row = i / kPackets, packet = i % kPackets;
        const std::int64_t at = (row0 + row) * n + column0 + packet * kPacket;
        if (row0 + row >= m || column0 + packet * kPacket >= n) continue;
        float scaled[kPacket];
        load_scaled<kPacket>(x + at, k, scaled, top);
        Packet<To, kPacket> codes;
        store<kPacket>(codes.x, scaled);
        *reinterpret_cast<Packet<To, kPacket>*>(y + at) = codes;
        const auto words = *reinterpret_cast<const uint2*>(codes.x);
        tile.words[row][packet * 2] = words.x;
        tile.words[row][packet * 2 + 1] = words.y;
    }
    __syncthreads();
    store_transposed(tile, reinterpret_cast<std::uint8_t*>(transposed), m, n, row0, column0);
    note_amax(state, top);
}

template <class T, class To>
void delayed_quantise(const KernelCall& call, const ScaleRule& rule) {
    const TensorRef &x = call.in[0], &history = call.in[1], &y = call.out[0];
    const std::int64_t n = x.type.shape.elements();
    float* updated = call.out[1].as<float>();
    if (updated != history.data) {
        expect(cudaMemcpyAsync(updated, history.data,
                               static_cast<std::size_t>(data_bytes(history.type)),
                               cudaMemcpyDeviceToDevice, stream()),
               "cudaMemcpyAsync");
    }
    const DelayedState state{updated, static_cast<int>(history.type.shape[0]),
                             call.in[2].as<std::int32_t>(), call.in[3].as<float>()};
    float* amax = reinterpret_cast<float*>(call.scratch);
    expect(cudaMemsetAsync(amax, 0, sizeof(float), stream()), "memset");
    first_pass<<<packet_blocks(n, kFirstPassBlocks), kBlock, 0, stream()>>>(
        x.as<T>(), n, state, reinterpret_cast<std::uint32_t*>(amax));
    launched("delayed_quantise");
    const Scales scales{rule, amax, y.scales(),
                        call.out.size() == 4 ? call.out[3].scales() : nullptr,
                        call.out[2].as<float>()};
    const std::int64_t rows = x.type.shape.rows(), columns = x.type.shape.last();
    if constexpr (sizeof(To) == 1) {
        if (call.out.size() == 4 && n > 0 && rows % 16 == 0 && columns % 16 == 0) {
            const dim3 tiles(static_cast<unsigned>(ceil_div(columns, kByteTile)),
                             static_cast<unsigned>(ceil_div(rows, kByteTile)));
            second_pass_transposed<<<tiles, kBlock, 0, stream()>>>(
                x.as<T>(), rows, columns, state, scales, y.as<To>(), call.out[3].as<To>());
            launched("delayed_quantise");
            return;
        }
    }
    // As many blocks as there are packets: with one round each, the last ones do not straggle.
    second_pass<<<packet_blocks(n, std::int64_t{1} << 30), kBlock, 0, stream()>>>(
        x.as<T>(), n, state, scales, y.as<To>());
    launched("delayed_quantise");
    if (call.out.size() == 4) transpose(y, call.out[3]);
}

Prepared prepare(const NodeView& node) {
    const ScaleRule rule = std::get<DelayedQuantise>(node.op).rule;
    return dispatch_plain(node.in[0].dtype, [&]<class T>(std::type_identity<T>) -> Prepared {
        const auto with = [&]<class To>(std::type_identity<To>) {
            return Prepared{[rule](const KernelCall& call) { delayed_quantise<T, To>(call, rule); },
                            sizeof(float)};
        };
        switch (rule.to) {
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
    registry.add<DelayedQuantise>({"delayed_quantise", takes_all, prepare});
}

}  // namespace octavo::cuda
