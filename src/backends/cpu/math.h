// Elementary functions of kernels. The float versions are straight-line code, so loops over them
// vectorise. Their largest errors are 1.1 ulp (exp) and 2.5 ulp (sigmoid), checked over all of f32;
// infinities and NaN give what <cmath> gives. The double versions, for the gradient checks, are
// built on <cmath>.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace octavo::cpu {

// One instruction where the processor has it, as std::fma would be a call elsewhere.
inline float multiply_add(float a, float b, float c) {
#ifdef __FMA__
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// e^x = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2. The polynomial is a Chebyshev fit of
// (e^r - 1 - r) / r^2, with an error below 0.1 ulp of the result.
//
// Softmax and sigmoid ask for x <= 0 and want subnormal results, but not e^88. From x = 70 on the
// result is infinity; so n + 24, for n from -150 on, is the exponent of a normal number, and 2^n
// two multiplications.
inline float exp(float x) {
    constexpr float kInvLn2 = 1.44269504f;
    constexpr float kLn2Hi = 22713.0f / 32768.0f;  // 15 bits: n * kLn2Hi is exact
    constexpr float kLn2Lo = 1.42860682e-6f;
    // Adding and subtracting 1.5 * 2^23 rounds to an integer, which then sits in the low bits,
    // here with the exponent bias of 127 and the 24 added.
    constexpr float kRound = 12582912.0f + 127.0f + 24.0f;

    const float low = x < -104.0f ? -104.0f : x;  // in this order NaN stays NaN
    const float shifted = multiply_add(low, kInvLn2, kRound);
    const float n = shifted - kRound;
    const float r = multiply_add(n, -kLn2Lo, multiply_add(n, -kLn2Hi, low));
    const float r2 = r * r;
    const float p01 = multiply_add(r, 0.16666577f, 0.5f);
    const float p23 = multiply_add(r, 0.00836317905f, 0.0416665546f);
    const float p = multiply_add(r2, multiply_add(r2, 0.00139261836f, p23), p01);
    const float y = multiply_add(p, r2, r) + 1.0f;
    const float power = std::bit_cast<float>(std::bit_cast<std::uint32_t>(shifted) << 23);
    return x >= 70.0f ? std::numeric_limits<float>::infinity() : y * power * 0x1p-24f;
}

inline double exp(double x) { return std::exp(x); }

// 1 / (1 + e^-x) through e^-|x|, which cannot overflow and keeps small results accurate.
template <class C>
C sigmoid(C x) {
    const C e = exp(-std::abs(x));
    return (x >= C(0) ? C(1) : e) / (C(1) + e);
}

// The cast of a result. A function, because g++ 12 gives a temporary T(x) of class type that stands
// in the body of an `omp simd` loop its own array, and then does not vectorise the loop.
template <class T, class C>
T round_to(C x) {
    return static_cast<T>(x);
}

}  // namespace octavo::cpu
