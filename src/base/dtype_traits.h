// Dtype <-> C++ type, and the scalar conversions that kernel templates are written with.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "base/dtype.h"
#include "base/error.h"
#include "base/float16.h"
#include "base/float8.h"

namespace octavo {

template <class T>
struct dtype_of;
template <Dtype D>
using DtypeConstant = std::integral_constant<Dtype, D>;
template <>
struct dtype_of<double> : DtypeConstant<Dtype::f64> {};
template <>
struct dtype_of<float> : DtypeConstant<Dtype::f32> {};
template <>
struct dtype_of<bf16> : DtypeConstant<Dtype::bf16> {};
template <>
struct dtype_of<f16> : DtypeConstant<Dtype::f16> {};
template <>
struct dtype_of<e4m3> : DtypeConstant<Dtype::e4m3> {};
template <>
struct dtype_of<e5m2> : DtypeConstant<Dtype::e5m2> {};
template <>
struct dtype_of<e8m0> : DtypeConstant<Dtype::e8m0> {};
template <>
struct dtype_of<std::int64_t> : DtypeConstant<Dtype::i64> {};
template <>
struct dtype_of<std::int32_t> : DtypeConstant<Dtype::i32> {};
template <>
struct dtype_of<std::uint16_t> : DtypeConstant<Dtype::u16> {};
template <>
struct dtype_of<std::uint8_t> : DtypeConstant<Dtype::u8> {};

template <class T>
concept FloatElement = requires { dtype_of<T>::value; } && is_float(dtype_of<T>::value);

// Exact, but for f64, which is rounded to nearest even.
template <FloatElement T>
constexpr float to_f32(T x) {
    return static_cast<float>(x);
}

template <FloatElement T>
constexpr T from_f32(float x) {
    return static_cast<T>(x);
}

// One rounding from f64, as the definition of a cast asks for: going through a rounded f32 would
// round twice. Rounding to odd keeps in the last bit of the f32 that something was cut off, and has
// enough bits to spare for the second rounding (Boldo and Melquiond, 2005).
template <FloatElement T>
constexpr T from_f64(double x) {
    if constexpr (std::same_as<T, double>) {
        return x;
    } else if constexpr (std::same_as<T, float>) {
        return static_cast<float>(x);
    } else {
        const float nearest = static_cast<float>(x);
        const bool above = nearest > x, below = nearest < x;  // neither for inf and NaN
        const std::int32_t bits = std::bit_cast<std::int32_t>(nearest);
        const bool towards_zero = bits >= 0 ? above : below;
        const bool move = (above || below) && (bits & 1) == 0;
        const std::int32_t step = towards_zero ? -1 : 1;
        return static_cast<T>(std::bit_cast<float>(move ? bits + step : bits));
    }
}

// Calls f(std::type_identity<T>{}) with the C++ type of a float dtype and returns its result:
//
//     dispatch_float(dtype, [&](auto tag) { using T = typename decltype(tag)::type; ... });
template <class F>
decltype(auto) dispatch_float(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::f64:
            return std::forward<F>(f)(std::type_identity<double>{});
        case Dtype::f32:
            return std::forward<F>(f)(std::type_identity<float>{});
        case Dtype::bf16:
            return std::forward<F>(f)(std::type_identity<bf16>{});
        case Dtype::f16:
            return std::forward<F>(f)(std::type_identity<f16>{});
        case Dtype::e4m3:
            return std::forward<F>(f)(std::type_identity<e4m3>{});
        case Dtype::e5m2:
            return std::forward<F>(f)(std::type_identity<e5m2>{});
        default:
            fail("dtype: expected f64, f32, bf16, f16, e4m3 or e5m2, got {}", name(dtype));
    }
}

}  // namespace octavo
