// The definition of a cast, for tests: FP64 values of all codes, nearest by search, ties to the
// even code. Shares nothing with the codecs under test.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <vector>

namespace octavo {

struct CodecReference {
    const char* name;
    int exponent_bits, mantissa_bits;
    int max_code;    // largest finite magnitude
    bool has_inf;    // the code after max_code is inf, else NaN
    bool saturates;  // else overflow gives inf
    int nan_code;    // what NaN becomes
    std::vector<double> magnitudes = {};

    int sign_bit() const { return 1 << (exponent_bits + mantissa_bits); }

    double value(int code) const {
        const int magnitude = code & (sign_bit() - 1);
        const double sign = code & sign_bit() ? -1.0 : 1.0;
        if (magnitude > max_code) {
            return has_inf && magnitude == max_code + 1 ? sign * INFINITY : NAN;
        }
        const int bias = (1 << (exponent_bits - 1)) - 1;
        const int exponent = magnitude >> mantissa_bits;
        const double fraction = std::ldexp(magnitude & ((1 << mantissa_bits) - 1), -mantissa_bits);
        return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias)
                                     : std::ldexp(1.0 + fraction, exponent - bias));
    }

    int cast(double x) {
        if (std::isnan(x)) return nan_code;
        if (magnitudes.empty()) {
            for (int code = 0; code <= max_code; ++code) magnitudes.push_back(value(code));
            // Where the next binade would begin: overflow is decided by rounding to it.
            if (!saturates) {
                magnitudes.push_back(2 * magnitudes[max_code] - magnitudes[max_code - 1]);
            }
        }
        const int sign = std::signbit(x) ? sign_bit() : 0;
        const double a = std::fabs(x);
        const auto above = std::lower_bound(magnitudes.begin(), magnitudes.end(), a);
        const int hi = static_cast<int>(above - magnitudes.begin());
        if (hi == static_cast<int>(magnitudes.size())) return sign | (hi - 1);
        if (hi == 0) return sign;
        const double up = magnitudes[hi] - a, down = a - magnitudes[hi - 1];
        if (up == down) return sign | (hi % 2 == 0 ? hi : hi - 1);
        return sign | (up < down ? hi : hi - 1);
    }
};

inline CodecReference e4m3_reference() { return {"e4m3", 4, 3, 0x7E, false, true, 0x7F}; }
inline CodecReference e5m2_reference() { return {"e5m2", 5, 2, 0x7B, true, true, 0x7F}; }
inline CodecReference f16_reference() { return {"f16", 5, 10, 0x7BFF, true, true, 0x7E00}; }
inline CodecReference bf16_reference() { return {"bf16", 8, 7, 0x7F7F, true, false, 0x7FC0}; }

// f32 inputs that decide whether a codec rounds right: every midpoint between neighbouring codes
// with the floats beside it, powers of two over the whole range, infinities, and a walk through all
// bit patterns (subnormals and NaNs among them), each with both signs.
inline std::vector<float> telling_inputs(const CodecReference& format, std::uint32_t stride) {
    std::vector<float> inputs = {0.0f, INFINITY, NAN, std::numeric_limits<float>::max(),
                                 std::numeric_limits<float>::denorm_min()};
    for (int code = 0; code <= format.max_code; ++code) {
        const double here = format.value(code);
        const double next =
            code < format.max_code ? format.value(code + 1) : 2 * here - format.value(code - 1);
        const float middle = static_cast<float>(here / 2 + next / 2);
        for (float x : {static_cast<float>(here), middle}) {
            inputs.insert(inputs.end(), {x, std::nextafter(x, 0.0f), std::nextafter(x, INFINITY)});
        }
    }
    for (int e = -149; e < 128; ++e) inputs.push_back(std::ldexp(1.0f, e));
    for (std::uint64_t bits = 0; bits < 0x80000000u; bits += stride) {
        inputs.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    }
    const std::size_t n = inputs.size();
    for (std::size_t i = 0; i < n; ++i) inputs.push_back(-inputs[i]);
    return inputs;
}

}  // namespace octavo
