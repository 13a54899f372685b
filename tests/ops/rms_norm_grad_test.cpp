#include "ops/plain_test.h"

namespace octavo::test {
namespace {

std::vector<HostTensor> operands(Dtype dtype, const Shape& shape) {
    const HostTensor x = random_tensor(dtype, shape, 1, 2);
    const HostTensor w = random_tensor(accumulator(dtype), {shape.last()}, 2);
    return {x, w, run(as_is(RmsNorm{}), {x, w})[1], random_tensor(dtype, shape, 3)};
}

// dx and dw, and what bounds their rounding: per row of dx, and per element of dw, the sum of the
// magnitudes that enter.
struct Expected {
    std::vector<double> dx, dw, dx_size, dw_size;
};

Expected oracle(const std::vector<HostTensor>& in) {
    const auto &x = in[0].values, &w = in[1].values, &rstd = in[2].values, &dy = in[3].values;
    const auto c = w.size();
    Expected e{{}, std::vector<double>(c), {}, std::vector<double>(c)};
    for (std::size_t row = 0; row < rstd.size(); ++row) {
        double mean = 0, size = 0;
        for (std::size_t i = row * c; i < row * c + c; ++i) {
            const double n = x[i] * rstd[row], g = dy[i] * w[i - row * c];
            mean += g * n / static_cast<double>(c);
            size = std::max(size, std::abs(g) + std::abs(n));
            e.dw[i - row * c] += dy[i] * n;
            e.dw_size[i - row * c] += std::abs(dy[i] * n);
        }
        for (std::size_t i = row * c; i < row * c + c; ++i) {
            const double n = x[i] * rstd[row], g = dy[i] * w[i - row * c];
            e.dx.push_back(rstd[row] * (g - n * mean));
            e.dx_size.push_back(rstd[row] * size * (1 + size));
        }
    }
    return e;
}

void check_case(Dtype dtype, const Shape& shape, bool accumulate = false) {
    SCOPED_TRACE(to_string(Type{dtype, shape}));
    auto in = operands(dtype, shape);
    Expected want = oracle(in);
    if (accumulate) {
        in.push_back(random_tensor(dtype, shape, 4));
        for (std::size_t i = 0; i < want.dx.size(); ++i) want.dx[i] += in[4].values[i];
    }
    const auto out = run(as_is(RmsNormGrad{}), in);
    EXPECT_EQ(out[0].type, in[0].type);
    EXPECT_EQ(out[1].type, in[1].type);
    ASSERT_EQ(out[0].values.size(), want.dx.size());
    const double u = rounding(accumulator(dtype));
    for (std::size_t i = 0; i < want.dx.size(); ++i) {
        const double steps = 8 + static_cast<double>(shape.last());
        EXPECT_NEAR(out[0].values[i], want.dx[i],
                    rounding(dtype) * std::abs(want.dx[i]) + steps * u * want.dx_size[i] +
                        (dtype == Dtype::f16 ? 0x1p-25 : 0));
    }
    for (std::size_t j = 0; j < want.dw.size(); ++j) {
        const double steps = 4 + static_cast<double>(shape.rows());
        EXPECT_NEAR(out[1].values[j], want.dw[j], steps * u * want.dw_size[j]);
    }
    expect_same_in_place(RmsNormGrad{}, in);
}

TEST(RmsNormGrad, MatchesTheOracle) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) check_case(dtype, shape);
        check_case(dtype, {131, 33});
        // Rows that a GPU's block holds in one packet or two per thread, or not at all.
        for (const Shape& shape :
             {Shape{37, 264}, Shape{9, 2056}, Shape{6, 4104}, Shape{2, 8200}}) {
            check_case(dtype, shape);
            check_case(dtype, shape, /*accumulate=*/true);
        }
    }
}

TEST(RmsNormGrad, MeasuresWhatItWrites) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Statistic statistic : {Statistic::l2, Statistic::l1, Statistic::max}) {
            for (const Shape& shape :
                 {Shape{0, 8}, Shape{3, 5}, Shape{37, 264}, Shape{9, 4104}, Shape{2, 8200}}) {
                SCOPED_TRACE(to_string(Type{dtype, shape}));
                const RmsNormGrad op{.measure = DynamicRescale{statistic, -3}};
                auto in = operands(dtype, shape);
                in.push_back(scalar(4));
                const auto fused = run(as_is(op), in), parts = run(decomposed(op), in);
                ASSERT_EQ(fused.size(), parts.size());
                for (std::size_t k = 0; k < parts.size(); ++k) {
                    expect_identical(fused[k], parts[k]);
                }
                expect_same_in_place(op, in);
            }
        }
    }
}

TEST(RmsNormGrad, SameOnAnyThreads) {
    expect_same_on_any_threads(as_is(RmsNormGrad{}), operands(Dtype::f32, {333, 129}));
}

TEST(RmsNormGrad, RefusesOtherTypes) {
    const Type x{Dtype::f32, {2, 4}};
    EXPECT_EQ(refusal(as_is(RmsNormGrad{}), {x, {Dtype::f32, {4}}, {Dtype::f32, {4}}, x}),
              "rms_norm_grad: operand 2 must have shape [2], got f32[4]");
    EXPECT_EQ(refusal(as_is(RmsNormGrad{}), {x, {Dtype::f32, {4}}, {Dtype::f32, {2}}, {}}),
              "rms_norm_grad: operands 0 and 3 must have the same type, got f32[2, 4] and f32[]");
}

}  // namespace
}  // namespace octavo::test
