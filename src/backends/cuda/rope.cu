#include "backends/cuda/kernels.cuh"
#include "backends/cuda/rope_table.h"

namespace octavo::cuda {
namespace {

template <class T>
struct Rotation {
    using C = compute_t<T>;
    const T* x;
    const std::int32_t* positions;  // null: token t of a sequence is at t
    const C *cosine, *sine;
    T* y;
    std::int64_t tokens;  // of a sequence
    int heads, half;
    C sign;
};

// A block takes a token, a thread both packets of a pair: y may be x.
template <int N, class T>
__global__ void __launch_bounds__(kBlock) rope_kernel(Rotation<T> r) {
    using C = compute_t<T>;
    const std::int64_t token = blockIdx.x;
    std::int64_t position = token % r.tokens;
    if (r.positions) position = r.positions[token] > 0 ? r.positions[token] : 0;
    const C *cosine = r.cosine + position * r.half, *sine = r.sine + position * r.half;
    const std::int64_t first = token * r.heads * 2 * r.half;
    const int packets = r.half / N;
    for (int p = static_cast<int>(threadIdx.x); p < r.heads * packets; p += blockDim.x) {
        const int head = p / packets, i = p % packets * N;
        const std::int64_t at = first + std::int64_t{head} * 2 * r.half + i;
        C a[N], b[N], c[N], s[N];
        load<N>(r.x + at, a);
        load<N>(r.x + at + r.half, b);
        load<N>(cosine + i, c);
        load<N>(sine + i, s);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const C first_half = a[k], turned = s[k] * r.sign;
            a[k] = first_half * c[k] - b[k] * turned;
            b[k] = b[k] * c[k] + first_half * turned;
        }
        store<N>(r.y + at, a);
        store<N>(r.y + at + r.half, b);
    }
}

template <class T>
void rope(const KernelCall& call, const RopeTable<compute_t<T>>& table, bool inverse) {
    const Shape& shape = call.in[0].type.shape;  // (B, T, H, D)
    if (shape.elements() == 0) return;
    const Rotation<T> rotation{
        .x = call.in[0].as<T>(),
        .positions = call.in.size() == 2 ? call.in[1].as<std::int32_t>() : nullptr,
        .cosine = table.cosine,
        .sine = table.sine,
        .y = call.out[0].as<T>(),
        .tokens = shape[1],
        .heads = static_cast<int>(shape[2]),
        .half = static_cast<int>(shape[3] / 2),
        .sign = inverse ? compute_t<T>(-1) : compute_t<T>(1)};
    const auto blocks = static_cast<unsigned>(shape[0] * shape[1]);
    const auto launch = [&]<int N>() {
        const std::int64_t packets = std::int64_t{rotation.heads} * rotation.half / N;
        const auto threads = std::min<std::int64_t>(kBlock, ceil_div(packets, kWarp) * kWarp);
        rope_kernel<N><<<blocks, static_cast<unsigned>(threads), 0, stream()>>>(rotation);
    };
    if (rotation.half % kPacket == 0) {
        launch.template operator()<kPacket>();
    } else {
        launch.template operator()<1>();
    }
    launched("rope");
}

Prepared prepare(const NodeView& node) {
    const Rope& op = std::get<Rope>(node.op);
    const std::int64_t positions = node.in.size() == 2 ? op.max_positions : node.in[0].shape[1];
    const std::int64_t half = node.in[0].shape[3] / 2;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        auto table = rope_table<C>(op, positions, half);
        return Prepared{[table = std::move(table), inverse = op.inverse](const KernelCall& call) {
            rope<T>(call, *table, inverse);
        }};
    });
}

}  // namespace

void register_rope(KernelRegistry& registry) { registry.add<Rope>({"rope", takes_all, prepare}); }

}  // namespace octavo::cuda
