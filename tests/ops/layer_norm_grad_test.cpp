#include "ops/plain_test.h"

namespace octavo::test {
namespace {

std::vector<HostTensor> operands(Dtype dtype, const Shape& shape) {
    const Dtype acc = accumulator(dtype);
    const HostTensor x = random_tensor(dtype, shape, 1, 2);
    const HostTensor w = random_tensor(acc, {shape.last()}, 2);
    const auto forward = run(as_is(LayerNorm{}), {x, w, w});
    return {x, w, forward[1], forward[2], random_tensor(dtype, shape, 3)};
}

// Results, and what bounds their rounding: per row of dx, and per element of dw and db, the
// magnitudes that enter.
struct Expected {
    std::vector<double> dx, dw, db, dx_size, dw_size, db_size;
};

Expected oracle(const std::vector<HostTensor>& in) {
    const auto &x = in[0].values, &w = in[1].values, &mean = in[2].values, &rstd = in[3].values;
    const auto& dy = in[4].values;
    const auto c = w.size();
    const std::vector<double> zeros(c);
    Expected e{{}, zeros, zeros, {}, zeros, zeros};
    for (std::size_t row = 0; row < rstd.size(); ++row) {
        const auto n = [&](std::size_t j) { return (x[row * c + j] - mean[row]) * rstd[row]; };
        const auto g = [&](std::size_t j) { return dy[row * c + j] * w[j]; };
        double mean_g = 0, mean_gn = 0, size = 0;
        for (std::size_t j = 0; j < c; ++j) {
            mean_g += g(j) / static_cast<double>(c);
            mean_gn += g(j) * n(j) / static_cast<double>(c);
            size =
                std::max(size, std::abs(g(j)) + std::abs(n(j)) + std::abs(mean[row] * rstd[row]));
            e.dw[j] += dy[row * c + j] * n(j);
            e.db[j] += dy[row * c + j];
            e.dw_size[j] += std::abs(dy[row * c + j]) * (std::abs(n(j)) + 1);
            e.db_size[j] += std::abs(dy[row * c + j]);
        }
        for (std::size_t j = 0; j < c; ++j) {
            e.dx.push_back(rstd[row] * (g(j) - mean_g - n(j) * mean_gn));
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
        for (std::size_t i = 0; i < want.dx.size(); ++i) want.dx[i] += in[5].values[i];
    }
    const auto out = run(as_is(LayerNormGrad{}), in);
    EXPECT_EQ(out[0].type, in[0].type);
    EXPECT_EQ(out[1].type, in[1].type);
    EXPECT_EQ(out[2].type, in[1].type);
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
        EXPECT_NEAR(out[2].values[j], want.db[j], steps * u * want.db_size[j]);
    }
    expect_same_in_place(LayerNormGrad{}, in);
}

TEST(LayerNormGrad, MatchesTheOracle) {
    for (Dtype dtype : kPlainDtypes) {
        // A row of one element is nothing but its mean: rstd is 1 / sqrt(eps) and dx rounding
        // noise.
        for (const Shape& shape : {Shape{7}, Shape{0, 4}, Shape{3, 5}, Shape{2, 3, 129}}) {
            check_case(dtype, shape);
        }
        check_case(dtype, {131, 33});
        // Rows that a GPU's block holds in one packet or two per thread, or not at all.
        for (const Shape& shape :
             {Shape{37, 264}, Shape{9, 2056}, Shape{6, 4104}, Shape{2, 8200}}) {
            check_case(dtype, shape);
            check_case(dtype, shape, /*accumulate=*/true);
        }
    }
}

TEST(LayerNormGrad, MeasuresWhatItWrites) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Statistic statistic : {Statistic::l2, Statistic::l1, Statistic::max}) {
            for (const Shape& shape :
                 {Shape{0, 8}, Shape{3, 5}, Shape{37, 264}, Shape{9, 4104}, Shape{2, 8200}}) {
                SCOPED_TRACE(to_string(Type{dtype, shape}));
                const LayerNormGrad op{.measure = DynamicRescale{statistic, -3}};
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

TEST(LayerNormGrad, SameOnAnyThreads) {
    expect_same_on_any_threads(as_is(LayerNormGrad{}), operands(Dtype::f32, {333, 129}));
}

TEST(LayerNormGrad, RefusesOtherTypes) {
    const Type x{Dtype::f32, {2, 4}}, w{Dtype::f32, {4}}, rows{Dtype::f32, {2}};
    EXPECT_EQ(refusal(as_is(LayerNormGrad{}), {x, w, rows, w, x}),
              "layer_norm_grad: operand 3 must have shape [2], got f32[4]");
    EXPECT_EQ(
        refusal(as_is(LayerNormGrad{}), {x, w, rows, rows, w}),
        "layer_norm_grad: operands 0 and 4 must have the same type, got f32[2, 4] and f32[4]");
}

}  // namespace
}  // namespace octavo::test
