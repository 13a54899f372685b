// The arithmetic of the ops that find scales for propagation (arXiv 2407.17353), for every backend
// alike: plain code that also compiles for a GPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/power.h"
#include "graph/op.h"

namespace octavo {

// ---- SplitPower --------------------------------------------------------------------------------

constexpr float split_power(float product) {
    const float power = floor_power(product);
    return is_finite(product) && power > 0 ? power : 1.0f;
}

// ---- ScaledAdd ---------------------------------------------------------------------------------

struct SumFactors {
    float a, b;   // to the scale of the sum
    float scale;  // of the sum
};
constexpr SumFactors sum_factors(const ScaledAdd& op, float a_scale, float b_scale, float a_size,
                                 float b_size) {
    const float a = scaled_power(a_size, op.a_size), b = scaled_power(b_size, op.b_size);
    const float scale = a > b ? a : b;
    const auto ratio = [&](float s, int e) { return scaled_power(s, e - exponent_of(scale)); };
    return {ratio(a_scale, op.a_exponent), ratio(b_scale, op.b_exponent), scale};
}

// ---- DynamicRescale ----------------------------------------------------------------------------

// Statistics are taken of chunks in f32, by lanes: lane l has elements 8 l to 8 l + 7 of each 8
// kLanes of its chunk, in order. Then of all chunks in f64, by lanes again: lane l has chunks l, l
// + kLanes,
// ... in order. Lanes are joined pairwise, l with l + n / 2, until one is left.
inline constexpr int kStatisticLanes = 256, kStatisticPacket = 8;
inline constexpr std::int64_t kStatisticChunk = 4096;

constexpr std::int64_t statistic_chunks(std::int64_t n) {
    return (n + kStatisticChunk - 1) / kStatisticChunk;
}

// NaN stays, which a comparison would pass over.
template <class C>
constexpr C larger(C a, C b) {
    return a > b || a != a ? a : b;
}

// A lane takes in an element. With fma, so that no compiler may choose to round in between.
constexpr float with_element(Statistic statistic, float lane, float x) {
    switch (statistic) {
        case Statistic::l2:
            return fmaf(x, x, lane);
        case Statistic::l1:
            return lane + fabsf(x);
        default:
            return larger(lane, fabsf(x));
    }
}

template <class C>
constexpr C joined(Statistic statistic, C a, C b) {
    return statistic == Statistic::max ? larger(a, b) : a + b;
}

// What data of n elements is to be divided by; 1 where its statistic is not finite.
constexpr float rescale_factor(Statistic statistic, double total, std::int64_t n) {
    constexpr float kLeast = 0x1p-14f;
    const double mean =
        statistic == Statistic::max || n == 0 ? total : total / static_cast<double>(n);
    const auto size = static_cast<float>(statistic == Statistic::l2 ? sqrt(mean) : mean);
    if (!is_finite(size)) return 1.0f;
    const float power = floor_power(size);
    return power < kLeast ? kLeast : power;
}

// ---- AdamBounds --------------------------------------------------------------------------------

struct MomentBounds {
    float m = 0, v = 0;
};

// What averaging leaves of the size of independent gradients.
inline float averaged_size(float beta1) { return sqrtf((1 - beta1) / (1 + beta1)); }

constexpr MomentBounds moment_bounds(MomentBounds old, const AdamBounds& op, float averaged,
                                     float gradient) {
    const float e = floor_power(gradient);
    return {larger(averaged * e, op.beta1 * old.m), larger(e * e, op.beta2 * old.v)};
}

// The scale of a moment with this bound; `old` where there is none.
constexpr float moment_scale(float bound, float old) {
    const float power = floor_power(bound);
    return is_finite(bound) && power > 0 ? power : old;
}

}  // namespace octavo
