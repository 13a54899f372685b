#include "base/float8.h"

#include <gtest/gtest.h>

#include "base/float16.h"
#include "codec_reference.h"

namespace octavo {
namespace {

template <class T>
struct Reference;
template <>
struct Reference<e4m3> {
    static CodecReference make() { return e4m3_reference(); }
};
template <>
struct Reference<e5m2> {
    static CodecReference make() { return e5m2_reference(); }
};

template <class T>
class Float8 : public ::testing::Test {};
using Formats = ::testing::Types<e4m3, e5m2>;
TYPED_TEST_SUITE(Float8, Formats);

TYPED_TEST(Float8, AllCodesRoundTrip) {
    const CodecReference format = Reference<TypeParam>::make();
    for (int code = 0; code < 256; ++code) {
        const float value =
            static_cast<float>(TypeParam::from_bits(static_cast<std::uint8_t>(code)));
        const double want = format.value(code);
        if (std::isnan(want)) {
            EXPECT_TRUE(std::isnan(value)) << std::hex << code;
            EXPECT_EQ(TypeParam(value).bits, 0x7F) << std::hex << code;
        } else {
            EXPECT_EQ(value, want) << std::hex << code;
            EXPECT_EQ(std::signbit(value), code >= 0x80) << std::hex << code;
            const int saturated = std::isinf(want) ? code - 1 : code;
            EXPECT_EQ(TypeParam(value).bits, saturated) << std::hex << code;
        }
    }
}

TYPED_TEST(Float8, AllBf16InputsEqualTheReference) {
    CodecReference format = Reference<TypeParam>::make();
    for (int code = 0; code < 65536; ++code) {
        const float x = static_cast<float>(bf16::from_bits(static_cast<std::uint16_t>(code)));
        ASSERT_EQ(TypeParam(x).bits, format.cast(x)) << std::hex << code;
    }
}

TYPED_TEST(Float8, CastsFromF32EqualTheReference) {
    CodecReference format = Reference<TypeParam>::make();
    for (float x : telling_inputs(format, 997)) {
        ASSERT_EQ(TypeParam(x).bits, format.cast(x)) << std::hexfloat << x;
    }
}

struct Golden {
    float value;
    int code;
};

TEST(E4m3, GoldenCodes) {
    const Golden cases[] = {
        {464.0f, 0x7E},   {INFINITY, 0x7E},        {-INFINITY, 0xFE}, {NAN, 0x7F},
        {-NAN, 0x7F},     {17.0f, 0x58},           {19.0f, 0x5A},     {0x1p-9f, 0x01},
        {0x1p-10f, 0x00}, {1.5f * 0x1p-10f, 0x01}, {-0.0f, 0x80},     {0.1f, 0x1D},
        {-3.3f, 0xC5},    {448.0f, 0x7E},          {-1e30f, 0xFE},    {-0x1p-10f, 0x80}};
    for (auto [value, code] : cases) EXPECT_EQ(e4m3(value).bits, code) << value;
}

TEST(E5m2, GoldenCodes) {
    const Golden cases[] = {{61440.0f, 0x7B}, {INFINITY, 0x7B}, {-INFINITY, 0xFB}, {NAN, 0x7F},
                            {-NAN, 0x7F},     {9.0f, 0x48},     {11.0f, 0x4A},     {0x1p-16f, 0x01},
                            {0x1p-17f, 0x00}, {0.1f, 0x2E},     {-3.3f, 0xC3},     {-0.0f, 0x80}};
    for (auto [value, code] : cases) EXPECT_EQ(e5m2(value).bits, code) << value;
}

TEST(Float8, WorksInConstantExpressions) {
    static_assert(e4m3(448.0f).bits == 0x7E && static_cast<float>(e4m3(0x1p-9f)) == 0x1p-9f);
    static_assert(e5m2(57344.0f).bits == 0x7B && e5m2(-0.0f) == e5m2::from_bits(0x80));
    static_assert(e8m0::round_up(3.0f).bits == 129 && e8m0::exact(0.5f).bits == 126);
}

TEST(E8m0, AllCodesRoundTrip) {
    for (int code = 0; code < 255; ++code) {
        const float value = static_cast<float>(e8m0::from_bits(static_cast<std::uint8_t>(code)));
        EXPECT_EQ(value, std::ldexp(1.0f, code - 127));
        EXPECT_EQ(e8m0::exact(value).bits, code);
        EXPECT_EQ(e8m0::round_up(value).bits, code);
        if (code > 0) {
            EXPECT_EQ(e8m0::round_up(std::nextafter(value, 0.0f)).bits, code);
        }
        if (code < 254) {
            EXPECT_EQ(e8m0::round_up(std::nextafter(value, INFINITY)).bits, code + 1);
        }
    }
    EXPECT_TRUE(std::isnan(static_cast<float>(e8m0::from_bits(0xFF))));
}

TEST(E8m0, RoundUpAtTheEnds) {
    EXPECT_EQ(e8m0::round_up(0.0f).bits, 0);
    EXPECT_EQ(e8m0::round_up(-0.0f).bits, 0);
    EXPECT_EQ(e8m0::round_up(std::numeric_limits<float>::denorm_min()).bits, 0);
    EXPECT_EQ(e8m0::round_up(std::numeric_limits<float>::max()).bits, 0xFE);
    EXPECT_EQ(e8m0::round_up(INFINITY).bits, 0xFE);
    EXPECT_EQ(e8m0::round_up(NAN).bits, 0xFF);
    EXPECT_EQ(e8m0::round_up(-1.0f).bits, 0xFF);
}

TEST(E8m0, ExactRefusesWhatIsNoPowerOfTwo) {
    for (float x : {3.0f, 0.0f, -1.0f, NAN, INFINITY, 0x1p-128f}) {
        EXPECT_THROW(e8m0::exact(x), Error) << x;
    }
    try {
        e8m0::exact(3.0f);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.message(), "e8m0: expected a power of two from 2^-127 to 2^127, got 3");
    }
}

}  // namespace
}  // namespace octavo
