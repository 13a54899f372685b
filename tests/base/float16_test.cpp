#include "base/float16.h"

#include <gtest/gtest.h>

#include "codec_reference.h"

namespace octavo {
namespace {

// -NaN of f32: the sign of a NaN reaches bf16, so the reference's one NaN is compared by class.
bool is_nan_code(const CodecReference& format, int code) { return std::isnan(format.value(code)); }

template <class T>
void expect_all_codes_round_trip(const CodecReference& format) {
    for (int code = 0; code < 65536; ++code) {
        const T x = T::from_bits(static_cast<std::uint16_t>(code));
        const float value = static_cast<float>(x);
        if (is_nan_code(format, code)) {
            ASSERT_TRUE(std::isnan(value)) << std::hex << code;
            ASSERT_TRUE(is_nan_code(format, T(value).bits)) << std::hex << code;
        } else {
            ASSERT_EQ(value, format.value(code)) << std::hex << code;
            ASSERT_EQ(std::signbit(value), code >= 0x8000) << std::hex << code;
            if (!std::isinf(value) || !format.saturates) {
                ASSERT_EQ(T(value).bits, code) << std::hex << code;
            }
        }
    }
}

template <class T>
void expect_casts_equal_reference(CodecReference format) {
    for (float x : telling_inputs(format, 9973)) {
        const int got = T(x).bits, want = format.cast(x);
        if (std::isnan(x)) {
            ASSERT_TRUE(is_nan_code(format, got));
        } else {
            ASSERT_EQ(got, want) << std::hexfloat << x;
        }
    }
}

TEST(Bf16, AllCodesRoundTrip) { expect_all_codes_round_trip<bf16>(bf16_reference()); }
TEST(F16, AllCodesRoundTrip) { expect_all_codes_round_trip<f16>(f16_reference()); }
TEST(Bf16, CastsEqualTheReference) { expect_casts_equal_reference<bf16>(bf16_reference()); }
TEST(F16, CastsEqualTheReference) { expect_casts_equal_reference<f16>(f16_reference()); }

TEST(Bf16, Overflow) {
    EXPECT_EQ(bf16(std::numeric_limits<float>::max()).bits, 0x7F80);
    EXPECT_EQ(bf16(0x1.FEp127f).bits, 0x7F7F);
    EXPECT_EQ(bf16(-INFINITY).bits, 0xFF80);
}

TEST(Bf16, NanKeepsSignAndPayloadAndBecomesQuiet) {
    EXPECT_EQ(bf16(std::bit_cast<float>(0x7F800001u)).bits, 0x7FC0);  // payload in the lower half
    EXPECT_EQ(bf16(std::bit_cast<float>(0xFFA20000u)).bits, 0xFFE2);
    EXPECT_EQ(bf16(std::bit_cast<float>(0x7FFFFFFFu)).bits, 0x7FFF);  // must not carry into -0
}

TEST(F16, Saturates) {
    EXPECT_EQ(f16(65504.0f).bits, 0x7BFF);
    EXPECT_EQ(f16(65520.0f).bits, 0x7BFF);
    EXPECT_EQ(f16(INFINITY).bits, 0x7BFF);
    EXPECT_EQ(f16(-INFINITY).bits, 0xFBFF);
    EXPECT_EQ(f16(NAN).bits, 0x7E00);
    EXPECT_TRUE(std::isinf(static_cast<float>(f16::from_bits(0x7C00))));
}

TEST(Float16, WorksInConstantExpressions) {
    static_assert(bf16(1.0f).bits == 0x3F80 && static_cast<float>(bf16(1.0f)) == 1.0f);
    static_assert(f16(1.0f).bits == 0x3C00 && static_cast<float>(f16(0x1p-24f)) == 0x1p-24f);
    static_assert(bf16().bits == 0 && f16(-0.0f) == f16::from_bits(0x8000));
}

}  // namespace
}  // namespace octavo
