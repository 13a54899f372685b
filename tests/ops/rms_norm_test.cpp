#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr RmsNorm kOp{.eps = 1e-3f};

// y, then rstd.
std::vector<std::vector<double>> oracle(const HostTensor& x, const HostTensor& w) {
    const auto c = w.values.size();
    std::vector<std::vector<double>> want(2);
    for (std::size_t row = 0; row * c < x.values.size(); ++row) {
        const double* xr = x.values.data() + row * c;
        double squares = 0;
        for (std::size_t i = 0; i < c; ++i) squares += xr[i] * xr[i];
        const double rstd = 1 / std::sqrt(squares / static_cast<double>(c) + kOp.eps);
        for (std::size_t i = 0; i < c; ++i) want[0].push_back(xr[i] * rstd * w.values[i]);
        want[1].push_back(rstd);
    }
    return want;
}

TEST(RmsNorm, MatchesTheOracle) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            const std::vector<HostTensor> in = {
                random_tensor(dtype, shape, 1, 3),
                random_tensor(accumulator(dtype), {shape.last()}, 2)};
            const auto out = run(as_is(kOp), in);
            const auto want = oracle(in[0], in[1]);
            EXPECT_EQ(out[1].type, (Type{accumulator(dtype), {shape.rows()}}));
            // A sum of c squares has a relative error of c roundings at most.
            const double steps = 8 + static_cast<double>(shape.last());
            expect_each(out[0], want[0], tolerance(dtype, steps),
                        dtype == Dtype::f16 ? 0x1p-25 : 0);
            expect_each(out[1], want[1], tolerance(accumulator(dtype), steps));
        }
    }
}

TEST(RmsNorm, ZerosAndNan) {
    const HostTensor x = tensor(Dtype::f32, {3, 2}, {0, 0, kNan, 1, 3, 4});
    const auto y = run(as_is(kOp), {x, vector(Dtype::f32, {1, 1})})[0];
    const double rstd = 1 / std::sqrt(12.5 + kOp.eps);
    expect_close(y, {0, 0, kNan, kNan, 3 * rstd, 4 * rstd}, 1e-6);
}

TEST(RmsNorm, Gradient) {
    const Build y = [](Builder& b, const Values& in) { return Values{b.emit(kOp, in)[0]}; };
    check_gradient(y, {random_tensor(Dtype::f64, {3, 5}, 1), random_tensor(Dtype::f64, {5}, 2)},
                   {0, 1});
}

TEST(RmsNorm, RefusesOtherWeights) {
    EXPECT_EQ(refusal(as_is(kOp), {{Dtype::bf16, {2, 4}}, {Dtype::bf16, {4}}}),
              "rms_norm: operand 1 must be unscaled f32, got bf16[4]");
    EXPECT_EQ(refusal(as_is(kOp), {{Dtype::bf16, {2, 4}}, {Dtype::f32, {2}}}),
              "rms_norm: operand 1 must have shape [4], got f32[2]");
}

}  // namespace
}  // namespace octavo::test
