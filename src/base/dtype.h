// Element types. A value of an 8-bit type is `code x scale`; the scale belongs to the tensor, not
// here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace octavo {

enum class Dtype : std::uint8_t { f64, f32, bf16, f16, e4m3, e5m2, e8m0, i64, i32, u16, u8 };

inline constexpr Dtype kAllDtypes[] = {Dtype::f64,  Dtype::f32,  Dtype::bf16, Dtype::f16,
                                       Dtype::e4m3, Dtype::e5m2, Dtype::e8m0, Dtype::i64,
                                       Dtype::i32,  Dtype::u16,  Dtype::u8};

constexpr std::size_t size_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::f64:
        case Dtype::i64:
            return 8;
        case Dtype::f32:
        case Dtype::i32:
            return 4;
        case Dtype::bf16:
        case Dtype::f16:
        case Dtype::u16:
            return 2;
        case Dtype::e4m3:
        case Dtype::e5m2:
        case Dtype::e8m0:
        case Dtype::u8:
            return 1;
    }
    return 0;
}

constexpr std::string_view name(Dtype dtype) {
    switch (dtype) {
        case Dtype::f64:
            return "f64";
        case Dtype::f32:
            return "f32";
        case Dtype::bf16:
            return "bf16";
        case Dtype::f16:
            return "f16";
        case Dtype::e4m3:
            return "e4m3";
        case Dtype::e5m2:
            return "e5m2";
        case Dtype::e8m0:
            return "e8m0";
        case Dtype::i64:
            return "i64";
        case Dtype::i32:
            return "i32";
        case Dtype::u16:
            return "u16";
        case Dtype::u8:
            return "u8";
    }
    return "?";
}

constexpr std::optional<Dtype> dtype_named(std::string_view text) {
    for (Dtype d : kAllDtypes) {
        if (name(d) == text) return d;
    }
    return std::nullopt;
}

constexpr bool is_fp8(Dtype d) { return d == Dtype::e4m3 || d == Dtype::e5m2; }
constexpr bool is_float(Dtype d) { return d <= Dtype::e5m2; }

// Largest finite value, the target of saturating casts (OCP OFP8; IEEE 754 for f16).
constexpr float max_value(Dtype dtype) {
    switch (dtype) {
        case Dtype::e4m3:
            return 448.0f;
        case Dtype::e5m2:
            return 57344.0f;
        case Dtype::f16:
            return 65504.0f;
        case Dtype::bf16:
            return 3.38953138925153547590470800371487867e38f;
        default:
            return 3.40282346638528859811704183484516925e38f;
    }
}

}  // namespace octavo
