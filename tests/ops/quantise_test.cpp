#include <cmath>

#include "base/codec_reference.h"
#include "base/rng.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

HostTensor quantise(const HostTensor& x, Dtype to, double scale) {
    return run(as_is(Quantise{to}), {x, scalar(scale)})[0];
}

TEST(Quantise, GoldenCodes) {
    const std::vector<double> e4m3 = {464,    kInf,    -kInf,         kNan, 17,  19,
                                      0x1p-9, 0x1p-10, 1.5 * 0x1p-10, -0.0, 0.1, -3.3};
    EXPECT_EQ(
        code_values(quantise(vector(Dtype::f32, e4m3), Dtype::e4m3, 1)),
        (std::vector<int>{0x7E, 0x7E, 0xFE, 0x7F, 0x58, 0x5A, 0x01, 0x00, 0x01, 0x80, 0x1D, 0xC5}));
    const std::vector<double> e5m2 = {61440, kInf, 9, 11, 0x1p-16, 0x1p-17, 0.1, -3.3};
    EXPECT_EQ(code_values(quantise(vector(Dtype::f32, e5m2), Dtype::e5m2, 1)),
              (std::vector<int>{0x7B, 0x7B, 0x48, 0x4A, 0x01, 0x00, 0x2E, 0xC3}));
}

// Two codecs that share nothing: the kernel's against nearest-by-search in FP64.
struct Case {
    Dtype from, to;
    std::int64_t n;
    double scale;
};

std::ostream& operator<<(std::ostream& os, const Case& c) {
    return os << name(c.from) << " -> " << name(c.to) << ", " << c.n << " elements, scale "
              << c.scale;
}

class QuantiseTest : public testing::TestWithParam<Case> {};

TEST_P(QuantiseTest, IsTheNearestCodeOfTheScaledValue) {
    const Case& c = GetParam();
    const HostTensor x = random_tensor(c.from, {c.n}, 11, 30);
    const HostTensor y = quantise(x, c.to, c.scale);
    CodecReference reference = c.to == Dtype::e4m3 ? e4m3_reference() : e5m2_reference();
    const float k = 1.0f / static_cast<float>(c.scale);
    EXPECT_EQ(y.type, (Type{c.to, {c.n}, kPerTensor}));
    EXPECT_EQ(y.scales, std::vector<float>{static_cast<float>(c.scale)});
    for (std::size_t i = 0; i < x.values.size(); ++i) {
        const float scaled = static_cast<float>(x.values[i]) * k;
        ASSERT_EQ(std::to_integer<int>(y.codes[i]), reference.cast(scaled)) << x.values[i];
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, QuantiseTest,
                         testing::Values(Case{Dtype::f32, Dtype::e4m3, 40001, 0x1p-3},
                                         Case{Dtype::f32, Dtype::e5m2, 1001, 0x1p9},
                                         Case{Dtype::bf16, Dtype::e4m3, 70001, 100.0 / 448},
                                         Case{Dtype::bf16, Dtype::e5m2, 333, 1e-3},
                                         Case{Dtype::f16, Dtype::e4m3, 77, 0.3},
                                         Case{Dtype::f64, Dtype::e4m3, 1, 1.0},
                                         Case{Dtype::f32, Dtype::e4m3, 0, 0.25}));

// Codes under a scale give what their decoded values would.
TEST(Quantise, FromAnotherScale) {
    for (const Dtype from : {Dtype::f16, Dtype::e4m3, Dtype::e5m2}) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(fmt::format("{} {}", name(from), to_string(shape)));
            const std::vector<HostTensor> in{scaled_tensor(from, shape, 3, 0.3f), scalar(0.07)};
            const auto two_steps = run(
                [](Builder& b, const Values& v) {
                    const Value wide = b.one(Dequantise{Dtype::f32}, {v[0]});
                    return b.emit(Quantise{Dtype::e4m3}, {wide, v[1]});
                },
                in);
            for_each_kernel(Quantise{Dtype::e4m3}, in, [&](const std::vector<HostTensor>& out) {
                expect_identical(out[0], two_steps[0]);
            });
        }
    }
    expect_same_on_any_threads(as_is(Quantise{}),
                               {scaled_tensor(Dtype::f16, {90001}, 1, 0.3f), scalar(0.1)});
}

// Both copies are those of a quantiser and a transpose, from values and from codes.
TEST(Quantise, TransposedCopies) {
    const Shape shapes[] = {{48, 32}, {2, 80, 144}, {7, 5}, {256, 128}, {130, 264}, {0, 8}};
    for (const Dtype to : {Dtype::e4m3, Dtype::e5m2, Dtype::f16}) {
        for (const Shape& shape : shapes) {
            std::vector<HostTensor> operands;
            for (const Dtype from : kPlainDtypes) operands.push_back(random_tensor(from, shape, 1));
            for (const Dtype from : {Dtype::f16, Dtype::e4m3, Dtype::e5m2}) {
                operands.push_back(scaled_tensor(from, shape, 3, 0.3f));
            }
            for (const HostTensor& x : operands) {
                const std::vector<HostTensor> in{x, scalar(0.07)};
                for (const Copies copies : {Copies::columns, Copies::both}) {
                    const Quantise op{to, copies};
                    SCOPED_TRACE(to_string(x.type) + attributes(op));
                    const auto want = run(decomposed(op), in);
                    for_each_kernel(op, in, [&](const std::vector<HostTensor>& out) {
                        ASSERT_EQ(out.size(), copies == Copies::both ? 2u : 1u);
                        for (std::size_t i = 0; i < out.size(); ++i) {
                            expect_identical(out[i], want[i]);
                        }
                    });
                }
            }
        }
    }
}

TEST(Quantise, OnAnyThreads) {
    expect_same_on_any_threads(as_is(Quantise{}),
                               {random_tensor(Dtype::f32, {90001}, 1), scalar(0.1)});
}

// ---- Up or down at random ----------------------------------------------------------------------

Quantise at_random(Dtype to, const CastNoise& noise = {}) { return {.to = to, .noise = noise}; }

// Among the magnitudes of all finite codes, in FP64: the neighbour above is taken if the uniform
// number is below the share of the way to it.
int rounded_at_random(const std::vector<double>& magnitudes, double y, double uniform) {
    const int sign = std::signbit(y) ? 0x80 : 0;
    const auto above = std::ranges::upper_bound(magnitudes, std::abs(y));
    if (above == magnitudes.end()) return sign | static_cast<int>(magnitudes.size() - 1);
    const double low = *(above - 1), share = (std::abs(y) - low) / (*above - low);
    const auto code = static_cast<int>(above - 1 - magnitudes.begin());
    return sign | (uniform < share ? code + 1 : code);
}

TEST(QuantiseAtRandom, TakesTheNeighbourThatItsNumberChooses) {
    const CastNoise noise{.seed = 0x1234567890ABCDEF, .tensor = 0xFEDCBA98};
    constexpr std::int32_t kDraw = 123456;
    for (const Dtype to : {Dtype::e4m3, Dtype::e5m2}) {
        std::vector<double> magnitudes;
        for (int code = 0; code <= (to == Dtype::e4m3 ? 0x7E : 0x7B); ++code) {
            magnitudes.push_back(to == Dtype::e4m3 ? decode_minifloat<e4m3>(code)
                                                   : decode_minifloat<e5m2>(code));
        }
        for (const Dtype from : kPlainDtypes) {
            for (const std::int64_t n : {0, 1, 7, 9, 4099}) {
                SCOPED_TRACE(fmt::format("{} -> {}, {} elements", name(from), name(to), n));
                HostTensor x = random_tensor(from, {n}, 11, 30);
                const float scale = 0.3f, k = 1.0f / scale;
                const std::vector<HostTensor> in{x, scalar(scale), count(kDraw)};
                std::vector<int> want;
                for (std::size_t i = 0; i < x.values.size(); ++i) {
                    const std::uint64_t high = std::uint64_t{3} << 32 | kDraw;
                    const std::uint64_t low = std::uint64_t{noise.tensor} << 32 | i / 4;
                    const double uniform = to_uniform(philox(noise.seed, high, low)[i % 4]);
                    const float y = static_cast<float>(x.values[i]) * k;
                    want.push_back(rounded_at_random(magnitudes, y, uniform));
                }
                for_each_kernel(at_random(to, noise), in, [&](const std::vector<HostTensor>& out) {
                    EXPECT_EQ(out[0].type, (Type{to, {n}, kPerTensor}));
                    EXPECT_EQ(out[0].scales, std::vector<float>{scale});
                    EXPECT_EQ(code_values(out[0]), want);
                });
            }
        }
    }
}

TEST(QuantiseAtRandom, IsRightOnAverage) {
    constexpr std::int64_t kN = 1 << 16;
    for (const Dtype to : {Dtype::e4m3, Dtype::e5m2}) {
        const double quantum = to == Dtype::e4m3 ? 0x1p-3 : 0x1p-2;  // between 1 and 2
        for (const double share : {0.02, 0.3125, 0.5, 0.9}) {
            for (const double sign : {1.0, -1.0}) {
                const double y = 1 + share * quantum;
                const HostTensor x = vector(Dtype::f32, std::vector<double>(kN, sign * y));
                const HostTensor q = run(as_is(at_random(to)), {x, scalar(1), count(5)})[0];
                double sum = 0;
                for (const double v : q.values) sum += sign * v;
                const double deviation = quantum * std::sqrt(share * (1 - share) / kN);
                EXPECT_NEAR(sum / kN, y, 5 * deviation) << name(to) << " " << sign * y;
                // To nearest all of them are the same.
                EXPECT_GT(std::abs(y - 1 - quantum * std::round(share)), 5 * deviation);
            }
        }
    }
}

TEST(QuantiseAtRandom, ValuesWithoutNeighboursStay) {
    const std::vector<double> x = {kInf, -kInf, kNan, 1e9, -460, 0, -0.0, 1.25, -448, 448};
    const auto q =
        run(as_is(at_random(Dtype::e4m3)), {vector(Dtype::f32, x), scalar(1), count(0)})[0];
    EXPECT_EQ(code_values(q),
              (std::vector<int>{0x7E, 0xFE, 0x7F, 0x7E, 0xFE, 0x00, 0x80, 0x3A, 0xFE, 0x7E}));
}

// Seeds, tensors and draws each have numbers of their own.
TEST(QuantiseAtRandom, NoTwoCastsShareNumbers) {
    const HostTensor x = random_tensor(Dtype::bf16, {4096}, 1);
    const auto codes = [&](const CastNoise& noise, std::int32_t draw) {
        return code_values(
            run(as_is(at_random(Dtype::e5m2, noise)), {x, scalar(0.01), count(draw)})[0]);
    };
    const auto first = codes({1, 2}, 3);
    EXPECT_EQ(first, codes({1, 2}, 3));
    const std::vector<int> others[] = {codes({2, 2}, 3), codes({1, 3}, 3), codes({1, 2}, 4)};
    for (const std::vector<int>& other : others) {
        int equal = 0;
        for (std::size_t i = 0; i < first.size(); ++i) equal += first[i] == other[i];
        // Values are halfway on average: two draws agree in two of three.
        EXPECT_NEAR(equal, 2 * 4096 / 3.0, 150);
    }
}

TEST(QuantiseAtRandom, OnAnyThreads) {
    expect_same_on_any_threads(as_is(at_random(Dtype::e5m2, {1, 2})),
                               {random_tensor(Dtype::f32, {90001}, 1), scalar(0.1), count(7)});
}

TEST(QuantiseAtRandom, IsForRowsInEightBits) {
    const std::vector<Type> operands{{Dtype::f32, {4, 4}}, {Dtype::f32, {1}}, {Dtype::i32, {1}}};
    EXPECT_EQ(refusal(as_is(at_random(Dtype::f16)), operands),
              "quantise: expected the rows in e4m3 or e5m2 to be rounded at random, got f16 "
              "stochastic");
    Quantise both = at_random(Dtype::e5m2);
    both.copies = Copies::both;
    EXPECT_NE(refusal(as_is(both), operands).find("expected the rows"), std::string::npos);
    EXPECT_EQ(refusal(as_is(at_random(Dtype::e5m2)), {operands[0], operands[1]}),
              "quantise takes 3 operands, got 2");
}

TEST(Quantise, ToF16) {
    const HostTensor y = quantise(vector(Dtype::f32, {1, -0.25, 1e9}), Dtype::f16, 0x1p-15);
    EXPECT_EQ(y.values, (std::vector<double>{1, -0.25, 65504 * 0x1p-15}));
}

TEST(Quantise, KeepsTheShape) {
    const HostTensor y = quantise(random_tensor(Dtype::f32, {3, 5, 7}, 1), Dtype::e4m3, 1);
    EXPECT_EQ(y.type.shape, (Shape{3, 5, 7}));
}

TEST(Quantise, RefusesFormatsWithoutScale) {
    EXPECT_EQ(refusal(as_is(Quantise{Dtype::bf16}), {{Dtype::f32, {4}}, {Dtype::f32, {1}}}),
              "quantise: expected a format that takes a scale (e4m3, e5m2 or f16), got bf16");
    EXPECT_EQ(refusal(as_is(Quantise{}), {{Dtype::e4m3, {4}}, {Dtype::f32, {1}}}),
              "quantise: operand 0 must be an unscaled f64, f32, bf16 or f16 tensor, got e4m3[4]");
    EXPECT_EQ(refusal(as_is(Quantise{}), {{Dtype::f32, {4}}, {Dtype::f64, {1}}}),
              "quantise: operand 1 must be unscaled f32, got f64[1]");
}

}  // namespace
}  // namespace octavo::test
