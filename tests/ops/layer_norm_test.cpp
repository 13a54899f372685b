#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr LayerNorm kOp{.eps = 1e-3f};

struct Expected {
    std::vector<double> y, mean, rstd;
};

Expected oracle(const HostTensor& x, const HostTensor& w, const HostTensor& b) {
    const auto c = w.values.size();
    const auto n = static_cast<double>(c);
    Expected e;
    for (std::size_t row = 0; row * c < x.values.size(); ++row) {
        const double* xr = x.values.data() + row * c;
        double mean = 0, squares = 0;
        for (std::size_t i = 0; i < c; ++i) mean += xr[i] / n;
        for (std::size_t i = 0; i < c; ++i) squares += (xr[i] - mean) * (xr[i] - mean);
        const double rstd = 1 / std::sqrt(squares / n + kOp.eps);
        for (std::size_t i = 0; i < c; ++i) {
            e.y.push_back((xr[i] - mean) * rstd * w.values[i] + b.values[i]);
        }
        e.mean.push_back(mean);
        e.rstd.push_back(rstd);
    }
    return e;
}

TEST(LayerNorm, MatchesTheOracle) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            const std::vector<HostTensor> in = {
                random_tensor(dtype, shape, 1, 3),
                random_tensor(accumulator(dtype), {shape.last()}, 2),
                random_tensor(accumulator(dtype), {shape.last()}, 3)};
            const auto out = run(as_is(kOp), in);
            const Expected want = oracle(in[0], in[1], in[2]);
            const Type statistic{accumulator(dtype), {shape.rows()}};
            EXPECT_EQ(out[1].type, statistic);
            EXPECT_EQ(out[2].type, statistic);
            // Sums of c terms, of magnitude 10 at most before they are normalised.
            const double steps = 8 + static_cast<double>(shape.last());
            const double u = rounding(accumulator(dtype));
            expect_each(out[0], want.y, tolerance(dtype, steps), 10 * steps * u);
            expect_each(out[1], want.mean, 0, 10 * steps * u);
            expect_each(out[2], want.rstd, 10 * steps * u);
        }
    }
}

TEST(LayerNorm, LargeMeanDoesNotCancel) {
    const HostTensor x = tensor(Dtype::f32, {1, 4}, {4096, 4097, 4098, 4099});
    const auto out = run(as_is(LayerNorm{.eps = 0}),
                         {x, vector(Dtype::f32, {1, 1, 1, 1}), vector(Dtype::f32, {0, 0, 0, 0})});
    EXPECT_EQ(out[1].values[0], 4097.5);
    EXPECT_NEAR(out[2].values[0], 1 / std::sqrt(1.25), 1e-7);
}

TEST(LayerNorm, ConstantRowsAndNan) {
    const HostTensor x = tensor(Dtype::f32, {2, 2}, {7, 7, kNan, 1});
    const auto y =
        run(as_is(kOp), {x, vector(Dtype::f32, {2, 2}), vector(Dtype::f32, {0.5, -1})})[0];
    expect_close(y, {0.5, -1, kNan, kNan}, 0);
}

TEST(LayerNorm, Gradient) {
    const Build y = [](Builder& b, const Values& in) { return Values{b.emit(kOp, in)[0]}; };
    check_gradient(y,
                   {random_tensor(Dtype::f64, {3, 5}, 1), random_tensor(Dtype::f64, {5}, 2),
                    random_tensor(Dtype::f64, {5}, 3)},
                   {0, 1, 2});
}

TEST(LayerNorm, RefusesOtherWeights) {
    const Type x{Dtype::bf16, {2, 4}}, w{Dtype::f32, {4}};
    EXPECT_EQ(refusal(as_is(kOp), {x, w, {Dtype::bf16, {4}}}),
              "layer_norm: operand 2 must be unscaled f32, got bf16[4]");
    EXPECT_EQ(refusal(as_is(kOp), {x, {Dtype::f32, {2}}, w}),
              "layer_norm: operand 1 must have shape [4], got f32[2]");
}

}  // namespace
}  // namespace octavo::test
