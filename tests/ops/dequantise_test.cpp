#include "base/codec_reference.h"
#include "ops/scaling_test.h"

namespace octavo::test {
namespace {

std::vector<std::uint8_t> all_codes() {
    std::vector<std::uint8_t> codes(256);
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i);
    return codes;
}

TEST(Dequantise, EveryCodeTimesTheScale) {
    for (Dtype from : {Dtype::e4m3, Dtype::e5m2}) {
        const CodecReference reference = from == Dtype::e4m3 ? e4m3_reference() : e5m2_reference();
        for (float scale : {1.0f, 0x1p-20f, 3.3f}) {
            const HostTensor x = scaled_tensor(from, all_codes(), scale);
            for (Dtype to : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
                const HostTensor y = run(as_is(Dequantise{to}), {x})[0];
                std::vector<double> want;
                for (int code = 0; code < 256; ++code) {
                    want.push_back(static_cast<float>(reference.value(code)) * scale);
                }
                expect_close(y, tensor(to, {256}, want).values, 0);
            }
        }
    }
}

// Codes are numbers: decoding and encoding again with the same power of two changes nothing.
TEST(Dequantise, IsUndoneByQuantise) {
    for (Dtype d : {Dtype::e4m3, Dtype::e5m2}) {
        std::vector<std::uint8_t> codes;
        for (std::uint8_t c : all_codes()) {
            if ((c & 0x7F) <= (d == Dtype::e4m3 ? 0x7E : 0x7B)) codes.push_back(c);
        }
        const HostTensor x = scaled_tensor(d, codes, 0x1p-7f);
        const auto round_trip = [d](Builder& b, const Values& in) {
            const Value plain = b.one(Dequantise{Dtype::bf16}, {in[0]});
            return Values{b.one(Quantise{d}, {plain, b.one(ScaleOf{}, {in[0]})})};
        };
        expect_identical(run(round_trip, {x})[0], x);
    }
}

TEST(Dequantise, LargeOddAndEmpty) {
    const auto round_trip = [](Builder& b, const Values& in) {
        const Value x8 = b.one(Quantise{Dtype::e4m3}, {in[0], in[1]});
        return Values{x8, b.one(Dequantise{Dtype::f32}, {x8})};
    };
    for (std::int64_t n : {0, 1, 50001}) {
        const auto out = run(round_trip, {random_tensor(Dtype::f32, {n}, 3), scalar(0.01)});
        expect_close(out[1], out[0].values, 1e-7);
    }
}

TEST(Dequantise, RefusesPlainTensorsAndCodesAsResult) {
    EXPECT_EQ(refusal(as_is(Dequantise{Dtype::f32}), {{Dtype::f32, {4}}}),
              "dequantise: operand 0 must hold codes under scales, got f32[4]");
    EXPECT_EQ(refusal(as_is(Dequantise{Dtype::e5m2}), {{Dtype::e4m3, {4}, kPerTensor}}),
              "dequantise: expected f64, f32, bf16 or f16, got e5m2");
}

}  // namespace
}  // namespace octavo::test
