#include "base/convert.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/dtype_traits.h"
#include "base/error.h"
#include "base/rng.h"
#include "codec_reference.h"

namespace octavo {
namespace {

constexpr Dtype kFloats[] = {Dtype::f64, Dtype::f32,  Dtype::bf16,
                             Dtype::f16, Dtype::e4m3, Dtype::e5m2};

// Buffers start one byte off, so nothing in them is aligned.
template <class T>
std::vector<std::byte> packed(const std::vector<T>& values) {
    std::vector<std::byte> bytes(1 + values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(bytes.data() + 1, values.data(), values.size() * sizeof(T));
    return bytes;
}

template <class T>
std::vector<T> unpacked(const std::vector<std::byte>& bytes) {
    std::vector<T> values((bytes.size() - 1) / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data() + 1, values.size() * sizeof(T));
    return values;
}

// Values over the range of FP8 and beyond, with zeros, infinities and NaNs in between.
template <class T>
std::vector<T> sample(std::int64_t n) {
    const Rng rng(3, 0);
    std::vector<T> values(n);
    for (std::int64_t i = 0; i < n; ++i) {
        const int exponent = static_cast<int>(rng.bits(i) % 60) - 35;
        float x = std::ldexp(rng.normal(i), exponent);
        if (i % 37 == 5) x = INFINITY;
        if (i % 41 == 7) x = -0.0f;
        if (i % 43 == 11) x = -NAN;
        if constexpr (std::same_as<T, double>) {
            values[i] = x * (1.0 + 1e-12 * rng.normal(i + 1));  // not an f32
        } else {
            values[i] = T(x);
        }
    }
    return values;
}

template <class T>
bool same(T a, T b) {
    return std::memcmp(&a, &b, sizeof(T)) == 0 ||
           (std::isnan(static_cast<float>(a)) && std::isnan(static_cast<float>(b)));
}

template <class F>
void for_all_pairs(F&& f) {
    for (Dtype from : kFloats) {
        for (Dtype to : kFloats) {
            dispatch_float(from, [&](auto s) {
                dispatch_float(to, [&](auto t) {
                    SCOPED_TRACE(std::string(name(from)) + " to " + std::string(name(to)));
                    f(s, t);
                });
            });
        }
    }
}

constexpr float kInvScale = 37.3f;
constexpr std::int64_t kLengths[] = {0, 1, 3, 7, 16, 31, 33, 100, 1001};

TEST(Convert, BulkEqualsScalarForAllPairs) {
    for_all_pairs([]<class From, class To>(std::type_identity<From>, std::type_identity<To>) {
        for (std::int64_t n : kLengths) {
            const std::vector<From> in = sample<From>(n);
            const std::vector<std::byte> src = packed(in);
            std::vector<std::byte> dst(1 + n * sizeof(To));
            convert(src.data() + 1, dtype_of<From>::value, dst.data() + 1, dtype_of<To>::value, n);
            const std::vector<To> out = unpacked<To>(dst);
            for (std::int64_t i = 0; i < n; ++i) {
                To want;
                if constexpr (std::same_as<From, double>) {
                    want = from_f64<To>(in[i]);
                } else {
                    want = from_f32<To>(to_f32(in[i]));
                }
                ASSERT_TRUE(same(out[i], want)) << "element " << i << " of " << n;
            }
        }
    });
}

TEST(Quantise, BulkEqualsScalarForAllPairs) {
    for_all_pairs([]<class From, class To>(std::type_identity<From>, std::type_identity<To>) {
        constexpr Dtype from = dtype_of<From>::value, to = dtype_of<To>::value;
        for (std::int64_t n : kLengths) {
            const std::vector<From> in = sample<From>(n);
            const std::vector<std::byte> src = packed(in);
            std::vector<std::byte> dst(1 + n * sizeof(To)), with_amax(dst), back(dst);
            quantise(src.data() + 1, from, kInvScale, dst.data() + 1, to, n);
            const float top =
                quantise_amax(src.data() + 1, from, kInvScale, with_amax.data() + 1, to, n);
            dequantise(src.data() + 1, from, kInvScale, back.data() + 1, to, n);
            EXPECT_EQ(dst, with_amax);
            EXPECT_EQ(dst, back);
            EXPECT_TRUE(same(top, amax(src.data() + 1, from, n)));
            const std::vector<To> out = unpacked<To>(dst);
            for (std::int64_t i = 0; i < n; ++i) {
                ASSERT_TRUE(same(out[i], from_f32<To>(to_f32(in[i]) * kInvScale)))
                    << "element " << i << " of " << n;
            }
        }
    });
}

template <class T>
void expect_bulk_equals_reference(CodecReference format) {
    std::vector<std::uint16_t> codes(65536);
    for (int i = 0; i < 65536; ++i) codes[i] = static_cast<std::uint16_t>(i);
    std::vector<T> out(codes.size());
    convert(codes.data(), Dtype::bf16, out.data(), dtype_of<T>::value, 65536);
    for (int i = 0; i < 65536; ++i) {
        const float x = static_cast<float>(bf16::from_bits(codes[i]));
        ASSERT_EQ(out[i].bits, format.cast(x)) << std::hex << i;
    }
}

TEST(Convert, AllBf16InputsEqualTheReference) {
    expect_bulk_equals_reference<e4m3>(e4m3_reference());
    expect_bulk_equals_reference<e5m2>(e5m2_reference());
    expect_bulk_equals_reference<f16>(f16_reference());
}

// A double a hair beside a tie: rounding to f32 first would put it on the tie.
template <class T>
void expect_one_rounding(CodecReference format) {
    std::vector<double> inputs = {0.0,    -0.0,    1e300,     -1e300,   INFINITY, -INFINITY,
                                  1e-320, -1e-320, 0x1p-1074, 0x1p-149, NAN,      1e39};
    for (int code = 0; code < format.max_code; ++code) {
        const double middle = (format.value(code) + format.value(code + 1)) / 2;
        for (double x : {middle, middle * (1 - 0x1p-40), middle * (1 + 0x1p-40)}) {
            inputs.insert(inputs.end(), {x, -x});
        }
    }
    std::vector<T> out(inputs.size());
    convert(inputs.data(), Dtype::f64, out.data(), dtype_of<T>::value,
            static_cast<std::int64_t>(inputs.size()));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        ASSERT_EQ(out[i].bits, format.cast(inputs[i])) << std::hexfloat << inputs[i];
    }
}

TEST(Convert, F64IsRoundedOnce) {
    expect_one_rounding<e4m3>(e4m3_reference());
    expect_one_rounding<e5m2>(e5m2_reference());
    expect_one_rounding<f16>(f16_reference());
    expect_one_rounding<bf16>(bf16_reference());
}

TEST(Amax, NanBeatsInfinityBeatsNumbers) {
    for (Dtype d : kFloats) {
        dispatch_float(d, [&]<class T>(std::type_identity<T>) {
            SCOPED_TRACE(std::string(name(d)));
            std::vector<T> x(77, from_f32<T>(-0.5f));
            EXPECT_EQ(amax(x.data(), d, 0), 0.0f);
            EXPECT_EQ(amax(x.data(), d, 77), 0.5f);
            x[60] = from_f32<T>(-3.0f);
            EXPECT_EQ(amax(x.data(), d, 77), 3.0f);
            EXPECT_EQ(amax(x.data(), d, 60), 0.5f);
            if (d == Dtype::f64 || d == Dtype::f32 || d == Dtype::bf16) {
                x[3] = from_f32<T>(-INFINITY);
                EXPECT_EQ(amax(x.data(), d, 77), INFINITY);
            }
            x[76] = from_f32<T>(-NAN);
            EXPECT_TRUE(std::isnan(amax(x.data(), d, 77)));
        });
    }
    const std::uint8_t inf_of_e5m2[] = {0x10, 0xFC, 0x22};
    EXPECT_EQ(amax(inf_of_e5m2, Dtype::e5m2, 3), INFINITY);
}

TEST(Convert, SpansMustAgreeInLength) {
    std::vector<std::byte> src(12), dst(3);
    convert(src, Dtype::f32, dst, Dtype::e4m3);
    convert(std::span(src).first(0), Dtype::f32, std::span(dst).first(0), Dtype::e4m3);
    const auto message = [&](std::span<const std::byte> s, std::span<std::byte> d) {
        try {
            convert(s, Dtype::f32, d, Dtype::e4m3);
        } catch (const Error& e) {
            return e.message();
        }
        return std::string("no error");
    };
    EXPECT_EQ(message(src, std::span(dst).first(2)),
              "convert: expected 3 bytes for 3 elements of e4m3, got 2");
    EXPECT_EQ(message(std::span(src).first(11), dst),
              "convert: expected a source of whole f32 elements (4 bytes each), got 11 bytes");
}

TEST(Convert, NamesADtypeThatIsNoFloat) {
    std::int32_t x = 0;
    float y = 0;
    try {
        convert(&x, Dtype::i32, &y, Dtype::f32, 1);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.message(), "dtype: expected f64, f32, bf16, f16, e4m3 or e5m2, got i32");
    }
    EXPECT_THROW(convert(&y, Dtype::f32, &x, Dtype::e8m0, 1), Error);
    EXPECT_THROW(amax(&x, Dtype::u8, 1), Error);
}

TEST(ParallelConvert, HasTheBitsOfOneThread) {
    constexpr std::int64_t kLong = (5 << 18) + 77;  // of several ranges
    const std::vector<std::byte> source = packed(sample<float>(kLong));
    const auto in = std::span(source).subspan(1);
    for (const std::int64_t n : {std::int64_t{0}, std::int64_t{1}, kLong}) {
        const auto some = in.first(static_cast<std::size_t>(n) * sizeof(float));
        std::vector<std::byte> one(static_cast<std::size_t>(n)), all(one);
        convert(some, Dtype::f32, one, Dtype::e4m3);
        parallel_convert(some, Dtype::f32, all, Dtype::e4m3);
        EXPECT_EQ(one, all) << n;
    }
    std::vector<std::byte> small(3);
    EXPECT_THROW(parallel_convert(in, Dtype::f32, small, Dtype::bf16), Error);
}

}  // namespace
}  // namespace octavo
