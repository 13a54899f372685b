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

// Statistics are taken of packets of 8 elements in f32, in order, and of all packets in f64. There,
// sums differ by their order so little that all backends, and kernels that measure what they write,
// find the same power of two.
inline constexpr int kStatisticPacket = 8;

// NaN stays, which a comparison would pass over.
template <class C>
constexpr C larger(C a, C b) {
    return a > b || a != a ? a : b;
}

// A packet takes in an element. With fma, so that no compiler may choose to round in between.
constexpr float with_element(Statistic statistic, float packet, float x) {
    switch (statistic) {
        case Statistic::l2:
            return fmaf(x, x, packet);
        case Statistic::l1:
            return packet + fabsf(x);
        default:
            return larger(packet, fabsf(x));
    }
}

constexpr double joined(Statistic statistic, double a, double b) {
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

constexpr float measured_size(const DynamicRescale& op, double total, std::int64_t n, float scale) {
    return scaled_power(scale, op.exponent + exponent_of(rescale_factor(op.statistic, total, n)));
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
