#include "base/convert.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/dtype_traits.h"
#include "base/error.h"
#include "base/parallel.h"

namespace octavo {
namespace {

// memcpy, because tensors mapped from files need not be aligned; it compiles to plain vector loads.
template <class T>
T load(const std::byte* p, std::int64_t i) {
    T value;
    std::memcpy(&value, p + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    return value;
}

template <class T>
void store(std::byte* p, std::int64_t i, T value) {
    std::memcpy(p + i * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
}

template <class T>
using CodeOf = std::conditional_t<
    sizeof(T) == 8, std::int64_t,
    std::conditional_t<sizeof(T) == 4, std::int32_t,
                       std::conditional_t<sizeof(T) == 2, std::int16_t, std::int8_t>>>;

// Magnitudes order like their codes in every format, with infinity above all numbers and NaN above
// infinity. So amax is an integer maximum, which vectorises as it may be reordered.
template <class T>
CodeOf<T> magnitude(T value) {
    using Code = CodeOf<T>;
    return static_cast<Code>(std::bit_cast<Code>(value) & std::numeric_limits<Code>::max());
}

template <class From, class To>
To cast(From value) {
    if constexpr (std::is_same_v<From, double>) {
        return from_f64<To>(value);
    } else {
        return from_f32<To>(to_f32(value));
    }
}

// Eight bits are few enough to look values up, which beats decoding them: 2.5 against 1.5 billion
// elements a second and core from e4m3 to bf16 (AMD Zen 3).
template <class To>
void look_up_loop(const std::byte* __restrict in, const To* __restrict values,
                  std::byte* __restrict out, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) store(out, i, values[static_cast<std::uint8_t>(in[i])]);
}

// The 256 values, as `of` gives them, are made anew for each call: that costs no more than the
// conversion of a few hundred elements.
template <class From, class To, class F>
void look_up(const std::byte* in, std::byte* out, std::int64_t n, F&& of) {
    std::array<To, 256> values;
    for (int code = 0; code < 256; ++code) {
        values[static_cast<std::size_t>(code)] =
            of(From::from_bits(static_cast<std::uint8_t>(code)));
    }
    look_up_loop(in, values.data(), out, n);
}

// The loops are functions of their own because the compiler trusts __restrict on parameters only.
template <class From, class To>
void convert_loop(const std::byte* __restrict in, std::byte* __restrict out, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) store(out, i, cast<From, To>(load<From>(in, i)));
}

template <class From, class To>
void quantise_loop(const std::byte* __restrict in, float k, std::byte* __restrict out,
                   std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
        store(out, i, from_f32<To>(to_f32(load<From>(in, i)) * k));
    }
}

template <class From>
float amax_loop(const std::byte* in, std::int64_t n) {
    CodeOf<From> top = 0;
    for (std::int64_t i = 0; i < n; ++i) top = std::max(top, magnitude(load<From>(in, i)));
    return to_f32(std::bit_cast<From>(top));
}

template <class From, class To>
float quantise_amax_loop(const std::byte* __restrict in, float k, std::byte* __restrict out,
                         std::int64_t n) {
    CodeOf<From> top = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const From value = load<From>(in, i);
        top = std::max(top, magnitude(value));
        store(out, i, from_f32<To>(to_f32(value) * k));
    }
    return to_f32(std::bit_cast<From>(top));
}

// f.operator()<From, To>() for the C++ types of two dtypes.
template <class F>
auto dispatch_pair(Dtype from, Dtype to, F&& f) {
    return dispatch_float(from, [&]<class From>(std::type_identity<From>) {
        return dispatch_float(to, [&]<class To>(std::type_identity<To>) {
            return f.template operator()<From, To>();
        });
    });
}

}  // namespace

void convert(const void* src, Dtype from, void* dst, Dtype to, std::int64_t n) {
    const auto* in = static_cast<const std::byte*>(src);
    auto* out = static_cast<std::byte*>(dst);
    dispatch_pair(from, to, [&]<class From, class To>() {
        if constexpr (std::is_same_v<From, To>) {
            if (n > 0) std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(From));
        } else if constexpr (sizeof(From) == 1) {
            look_up<From, To>(in, out, n, [](From code) { return cast<From, To>(code); });
        } else {
            convert_loop<From, To>(in, out, n);
        }
    });
}

namespace {

std::int64_t elements_of_both(std::span<const std::byte> src, Dtype from, std::span<std::byte> dst,
                              Dtype to) {
    const std::size_t n = src.size() / size_of(from);
    check(n * size_of(from) == src.size(),
          "convert: expected a source of whole {} elements ({} bytes each), got {} bytes",
          name(from), size_of(from), src.size());
    check(n * size_of(to) == dst.size(),
          "convert: expected {} bytes for {} elements of {}, got {}\n"
          "  Size the destination for as many elements as the source has.",
          n * size_of(to), n, name(to), dst.size());
    return static_cast<std::int64_t>(n);
}

}  // namespace

void convert(std::span<const std::byte> src, Dtype from, std::span<std::byte> dst, Dtype to) {
    convert(src.data(), from, dst.data(), to, elements_of_both(src, from, dst, to));
}

void parallel_convert(std::span<const std::byte> src, Dtype from, std::span<std::byte> dst,
                      Dtype to) {
    constexpr std::int64_t kGrain = 1 << 18;
    const std::int64_t n = elements_of_both(src, from, dst, to);
    parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
        convert(src.data() + begin * static_cast<std::int64_t>(size_of(from)), from,
                dst.data() + begin * static_cast<std::int64_t>(size_of(to)), to, end - begin);
    });
}

void quantise(const void* src, Dtype from, float inv_scale, void* dst, Dtype to, std::int64_t n) {
    const auto* in = static_cast<const std::byte*>(src);
    auto* out = static_cast<std::byte*>(dst);
    dispatch_pair(from, to, [&]<class From, class To>() {
        if constexpr (sizeof(From) == 1) {
            look_up<From, To>(in, out, n, [inv_scale](From code) {
                return from_f32<To>(to_f32(code) * inv_scale);
            });
        } else {
            quantise_loop<From, To>(in, inv_scale, out, n);
        }
    });
}

float amax(const void* src, Dtype from, std::int64_t n) {
    const auto* in = static_cast<const std::byte*>(src);
    return dispatch_float(
        from, [&]<class From>(std::type_identity<From>) { return amax_loop<From>(in, n); });
}

float quantise_amax(const void* src, Dtype from, float inv_scale, void* dst, Dtype to,
                    std::int64_t n) {
    const auto* in = static_cast<const std::byte*>(src);
    auto* out = static_cast<std::byte*>(dst);
    return dispatch_pair(from, to, [&]<class From, class To>() {
        return quantise_amax_loop<From, To>(in, inv_scale, out, n);
    });
}

}  // namespace octavo
