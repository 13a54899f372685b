#include "backends/cuda/adamw.cuh"

#include "backends/propagation.h"

namespace octavo::cuda {
namespace {

using namespace adamw;

constexpr int kAmaxBlocks = 4;  // of a multiprocessor, all resident

template <Moments kMoments>
__global__ void __launch_bounds__(kBlock, kAmaxBlocks)
    amaxes_kernel(std::int64_t n, const __grid_constant__ Step<kMoments> step) {
    const float clip = *step.factor;
    if (!isfinite(clip)) return;
    const bool with_w = step.out[0].scale && !step.op.keep_scale;
    std::uint32_t top[3] = {};
    for_packets(n, [&]<int N>(std::int64_t i) {
        float x[3][N] = {};
        step.compute(i, clip, with_w, x);
#pragma unroll
        for (int k = 0; k < 3; ++k) {
#pragma unroll
            for (int j = 0; j < N; ++j) top[k] = max(top[k], magnitude_bits(x[k][j]));
        }
    });
    for (int k = 0; k < 3; ++k) raise_to_block_max(&step.scales->top[k], top[k]);
}

template <Moments kMoments>
__global__ void start_kernel(const __grid_constant__ Step<kMoments> step) {
    for (int i = 0; i < 4; ++i) step.scales->old[i] = step.in[i].scale ? *step.in[i].scale : 1.0f;
    for (int k = 0; k < 3; ++k) step.scales->top[k] = 0;
}

template <Moments kMoments>
__global__ void scales_kernel(const __grid_constant__ Step<kMoments> step) {
    const bool skip = !isfinite(*step.factor);
    for (int k = 0; k < 3; ++k) {
        const State& s = step.out[k];
        const float old = step.scales->old[operand_of(k)];
        step.scales->next[k] = 1.0f;
        if (!s.scale) continue;
        if (k == 0 && step.op.keep_scale) {
            step.scales->next[k] = *s.scale = old;
            continue;
        }
        if (k > 0 && step.bounds) {
            step.scales->next[k] = *s.scale = skip ? old : moment_scale(step.bounds[k - 1], old);
            continue;
        }
        const ScaleRule rule{s.dtype, k == 0 ? kMasterRounding : step.op.scale_rounding, 0};
        const float next = skip ? old : next_scale(rule, step.scales->top[k], old);
        step.scales->next[k] = next;
        *s.scale = next;
    }
}

template <Moments kMoments>
__global__ void __launch_bounds__(kBlock, 3)
    adamw_kernel(std::int64_t n, const __grid_constant__ Step<kMoments> step) {
    const float clip = *step.factor;
    const bool skip = !isfinite(clip);
    std::uint32_t top = 0;
    for_packets(n, [&]<int N>(std::int64_t i) {
        float x[3][N];
        if (!skip) step.compute(i, clip, true, x);
        step.store_states(i, skip, x);
        if (step.reads_result()) step.pass_on(i, x[0], top);
    });
    if (step.amax) raise_to_block_max(step.amax, top);
}

// f(i, values) for a thread's packet of elements, or if it is cut short for each by itself. Only
// then does an index that the compiler does not know put values into memory.
template <class F>
__device__ inline void in_packets(std::int64_t at, int count, float (&x)[3][kPacket], F&& f) {
    if (count == kPacket) return f(at, x);
    float y[3][kPacket];
    memcpy(y, x, sizeof(x));
    for (int j = 0; j < count; ++j) {
        float one[3][1] = {{y[0][j]}, {y[1][j]}, {y[2][j]}};
        f(at + j, one);
        for (int k = 0; k < 3; ++k) y[k][j] = one[k][0];
    }
    memcpy(x, y, sizeof(x));
}

constexpr int kGroupLanes = kExpansionGroup / kPacket;
static_assert(kWarp % kGroupLanes == 0 && kBlock % kGroupLanes == 0);

// Of the elements of a group, a packet in each of its lanes.
__device__ inline Magnitudes group_magnitudes(const float (&x)[kPacket]) {
    Magnitudes all;
#pragma unroll
    for (int j = 0; j < kPacket; ++j) all.add(x[j]);
#pragma unroll
    for (int lane = kGroupLanes / 2; lane > 0; lane /= 2) {
        all.add(Magnitudes{__shfl_xor_sync(0xFFFFFFFF, all.top, lane),
                           __shfl_xor_sync(0xFFFFFFFF, all.bottom, lane)});
    }
    return all;
}

// Sixteen lanes own a group, so whole warps go through the loop together. Old expansions have been
// read by all of a group's lanes when one of them writes the new one: their maximum needs them.
__global__ void __launch_bounds__(kBlock, 2)
    adamw_expanded_kernel(std::int64_t n, const __grid_constant__ Step<Moments::expanded> step) {
    const float clip = *step.factor;
    const bool skip = !isfinite(clip);
    const std::int64_t at = (std::int64_t{blockIdx.x} * kBlock + threadIdx.x) * kPacket;
    const int count = static_cast<int>(clamped<std::int64_t>(n - at, 0, kPacket));
    float x[3][kPacket] = {};
    if (!skip) {
        in_packets(at, count, x, [&](std::int64_t i, auto& y) { step.compute(i, clip, true, y); });
#pragma unroll
        for (int k = 1; k < 3; ++k) {
            Expansion* const groups = step.out[k].groups;
            if (!groups) continue;
            const Expansion expansion = expansion_of(group_magnitudes(x[k]));
            if (count > 0 && threadIdx.x % kGroupLanes == 0) {
                groups[at / kExpansionGroup] = expansion;
            }
            const Expander expander(expansion);
#pragma unroll
            for (int j = 0; j < kPacket; ++j) x[k][j] = expander(x[k][j]);
        }
    }
    std::uint32_t top = 0;
    in_packets(at, count, x, [&](std::int64_t i, auto& y) {
        step.store_states(i, skip, y);
        if (step.reads_result()) step.pass_on(i, y[0], top);
    });
    if (step.amax) raise_to_block_max(step.amax, top);
}

template <Moments kMoments>
void run(const KernelCall& call, const AdamW& op) {
    Step<kMoments> step{.factor = call.in[4].as<float>(),
                        .schedule = call.in[5].as<float>(),
                        .step = call.in[6].as<std::int32_t>(),
                        .op = op};
    for (int i = 0; i < 4; ++i) step.in[i] = state(call.in[i]);
    for (int k = 0; k < 3; ++k) step.out[k] = state(call.out[k]);
    if (op.amax) {
        step.amax = call.out[3].as<float>();
        clear(step.amax, sizeof(float));
    }
    if (op.copy) {
        const TensorRef& copied = call.out.back();
        step.copy = state(copied);
        step.copy_factor = power_of_two(op.copy->exponent);
        if (op.copy->scaled) {
            step.copy_scale = call.in.back().as<float>();
            copy(step.copy_scale, copied.scale, sizeof(float));
        }
    }
    const std::int64_t n = call.in[0].type.shape.elements();
    const auto scaled = [](const State& s) { return s.scale != nullptr; };
    if (std::ranges::any_of(step.in, scaled)) {
        step.scales = reinterpret_cast<Scales*>(call.scratch);
        start_kernel<<<1, 1, 0, stream()>>>(step);
        if (has_bounds(op, call.in.size())) step.bounds = call.in[7].as<float>();
        const bool measured = !step.bounds && (scaled(step.out[1]) || scaled(step.out[2]));
        if (measured || (scaled(step.out[0]) && !op.keep_scale)) {
            const std::int64_t resident = std::int64_t{device().multiprocessors()} * kAmaxBlocks;
            amaxes_kernel<<<packet_blocks(n, resident), kBlock, 0, stream()>>>(n, step);
        }
        scales_kernel<<<1, 1, 0, stream()>>>(step);
    }
    // As many blocks as there are packets: with one round each, the last ones do not straggle.
    const unsigned blocks = packet_blocks(n, std::int64_t{1} << 30);
    if constexpr (kMoments == Moments::expanded) {
        adamw_expanded_kernel<<<blocks, kBlock, 0, stream()>>>(n, step);
    } else {
        adamw_kernel<<<blocks, kBlock, 0, stream()>>>(n, step);
    }
    launched("adamw");
}

Refusal reject(const NodeView& node) {
    const auto& copy = std::get<AdamW>(node.op).copy;
    const bool takes = !copy || size_of(copy->to) == 2 || is_fp8(copy->to);
    return takes ? std::nullopt : Refusal("a copy in " + std::string(name(copy->to)));
}

Prepared prepare(const NodeView& node) {
    const AdamW op = std::get<AdamW>(node.op);
    const bool options = op.stochastic_moments || op.sqrt_v || op.v_floor;
    const bool expanded = node.in[2].scaling == kExpanded || node.in[3].scaling == kExpanded;
    return {[op, options, expanded](const KernelCall& call) {
                if (expanded) return run<Moments::expanded>(call, op);
                if (options) return run<Moments::options>(call, op);
                run<Moments::plain>(call, op);
            },
            sizeof(Scales)};
}

}  // namespace

void register_adamw(KernelRegistry& registry) { registry.add<AdamW>({"adamw", reject, prepare}); }

}  // namespace octavo::cuda
