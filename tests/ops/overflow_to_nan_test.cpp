#include <cmath>

#include "ops/plain_test.h"

namespace octavo::test {
namespace {

Build casts(Dtype to, int exponent) {
    return [=](Builder& b, const Values& in) {
        const Value y = b.one(OverflowToNan{to, exponent}, in);
        return Values{b.one(Cast{.to = to, .exponent = exponent}, {y})};
    };
}

TEST(OverflowToNan, MatchesTheOracle) {
    const auto expect = [](const OverflowToNan& op, const auto& fits) {
        for (const Dtype d : kPlainDtypes) {
            for (const Shape& shape : kShapes) {
                SCOPED_TRACE(to_string(Type{d, shape}));
                const HostTensor x = random_tensor(d, shape, 1);
                std::vector<double> want;
                for (const double v : x.values) want.push_back(fits(std::abs(v)) ? v : kNan);
                expect_close(run(as_is(op), {x})[0], want, 0);
            }
        }
    };
    expect(OverflowToNan{Dtype::e4m3, 8}, [](double v) { return v * 256 <= 464; });
    expect(OverflowToNan{Dtype::e5m2, 15}, [](double v) { return v * 32768 < 61440; });
    check_pointwise(OverflowToNan{}, 1, 0, [](const auto& x) { return std::vector{x[0]}; });
}

// 512 is NaN in the published code (arXiv 2407.17353); 464 is a tie and becomes 448.
TEST(OverflowToNan, CodesOfE4m3) {
    const std::vector<double> x{448, 464, -464, 464.25, 512, -512, kInf, -kInf, kNan, -0.0};
    const std::vector<double> want{448, 448, -448, kNan, kNan, kNan, kNan, kNan, kNan, -0.0};
    for (const int exponent : {0, 3, -5}) {
        std::vector<double> data;
        for (const double v : x) data.push_back(std::ldexp(v, -exponent));
        expect_close(run(casts(Dtype::e4m3, exponent), {vector(Dtype::f32, data)})[0], want, 0);
    }
    expect_close(run(casts(Dtype::e4m3, 0), {vector(Dtype::f16, x)})[0], want, 0);
    const HostTensor codes = run(casts(Dtype::e4m3, 0), {vector(Dtype::f32, {448, 464, 512})})[0];
    EXPECT_EQ(code_values(codes), (std::vector<int>{0x7E, 0x7E, 0x7F}));
}

TEST(OverflowToNan, CodesOfE5m2) {
    const std::vector<double> x{57344, 61439, 61440, -61440, 65504, 1e9, kInf, kNan};
    const std::vector<double> want{57344, 57344, kNan, kNan, kNan, kNan, kNan, kNan};
    expect_close(run(casts(Dtype::e5m2, 0), {vector(Dtype::f32, x)})[0], want, 0);
}

TEST(OverflowToNan, RefusesWideFormats) {
    EXPECT_EQ(refusal(as_is(OverflowToNan{Dtype::f16}), {{Dtype::f32, {4}}}),
              "overflow_to_nan: expected a cast to e4m3 or e5m2, got f16");
}

}  // namespace
}  // namespace octavo::test
