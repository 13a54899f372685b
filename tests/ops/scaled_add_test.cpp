#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Case {
    ScaledAdd op;
    double a_scale, b_scale, a_size, b_size;  // powers of two
};

TEST(ScaledAdd, MatchesTheOracle) {
    const Case cases[] = {{{}, 1, 1, 1, 1},
                          {{}, 4, 0.5, 4, 0.5},
                          {{}, 0x1p-20, 0x1p-12, 0x1p-20, 0x1p-14},
                          {{3, -2, 1, 0}, 2, 8, 4, 2}};
    for (const Case& c : cases) {
        for (const Dtype dtype : kPlainDtypes) {
            for (const Shape& shape : kShapes) {
                const HostTensor a = random_tensor(dtype, shape, 1),
                                 b = random_tensor(dtype, shape, 2);
                const auto out = run(as_is(c.op), {a, scalar(c.a_scale), b, scalar(c.b_scale),
                                                   scalar(c.a_size), scalar(c.b_size)});
                const double scale =
                    std::max(std::ldexp(c.a_size, c.op.a_size), std::ldexp(c.b_size, c.op.b_size));
                std::vector<double> want;
                for (std::size_t i = 0; i < a.values.size(); ++i) {
                    want.push_back((std::ldexp(a.values[i] * c.a_scale, c.op.a_exponent) +
                                    std::ldexp(b.values[i] * c.b_scale, c.op.b_exponent)) /
                                   scale);
                }
                EXPECT_EQ(out[1].values[0], scale);
                expect_close(out[0], want, tolerance(dtype, 1));
            }
        }
    }
}

TEST(ScaledAdd, AndItsCodesEqualTheSumThenTheCast) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Shape& shape :
             {Shape{48, 32}, Shape{2, 80, 144}, Shape{7, 5}, Shape{0, 8}, Shape{130, 264}}) {
            for (const Dtype to : {Dtype::e4m3, Dtype::e5m2, Dtype::bf16}) {
                for (const bool transpose : {false, true}) {
                    const Cast cast{.to = to, .exponent = -1, .transpose = transpose};
                    const ScaledAdd op{.a_exponent = 3, .b_size = -2, .cast = cast};
                    SCOPED_TRACE(
                        fmt::format("{}{} {}", name(dtype), attributes(op), to_string(shape)));
                    const std::vector<HostTensor> in{random_tensor(dtype, shape, 1),
                                                     scalar(2),
                                                     random_tensor(dtype, shape, 2),
                                                     scalar(8),
                                                     scalar(2),
                                                     scalar(8)};
                    const auto fused = run(as_is(op), in), parts = run(decomposed(op), in);
                    ASSERT_EQ(fused.size(), transpose ? 4 : 3);
                    for (std::size_t k = 0; k < parts.size(); ++k) {
                        expect_identical(fused[k], parts[k]);
                    }
                    expect_same_in_place(op, in);
                }
            }
        }
    }
}

TEST(ScaledAdd, InPlaceToo) {
    const HostTensor a = random_tensor(Dtype::f16, {3, 129}, 1);
    const HostTensor b = random_tensor(Dtype::f16, {3, 129}, 2);
    expect_same_in_place(ScaledAdd{}, {a, scalar(2), b, scalar(8), scalar(2), scalar(8)});
}

}  // namespace
}  // namespace octavo::test
