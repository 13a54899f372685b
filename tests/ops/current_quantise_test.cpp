#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// The scale that the tensor has, its neighbours, and what is no scale at all.
std::vector<double> guesses(double scale) {
    return {scale, scale / 2, scale * 2, 1, 0, -1, 0x1p120, 0x1p-126, kInf, kNan};
}

// Whatever the guess, the results are those of the ops it stands for.
void expect_decomposed(const CurrentQuantise& op, std::vector<HostTensor> in) {
    in.push_back(scalar(1));
    const auto want = run(decomposed(op), in);
    for (const double guess : guesses(want[1].values[0])) {
        SCOPED_TRACE(guess);
        in.back() = scalar(guess);
        const auto got = run(as_is(op), in);
        ASSERT_EQ(got.size(), op.transpose ? 3u : 2u);
        for (std::size_t k = 0; k < got.size(); ++k) expect_identical(got[k], want[k]);
    }
}

TEST(CurrentQuantise, NoResultDependsOnTheGuess) {
    for (const Dtype to : {Dtype::e4m3, Dtype::e5m2}) {
        for (const bool transpose : {false, true}) {
            for (const Dtype dtype : kPlainDtypes) {
                for (const Shape& shape : kShapes) {
                    if (transpose && shape.rank() < 2) continue;
                    SCOPED_TRACE(to_string(Type{dtype, shape}));
                    expect_decomposed({.rule = {.to = to}, .transpose = transpose},
                                      {random_tensor(dtype, shape, 1, 5)});
                }
            }
        }
    }
}

TEST(CurrentQuantise, ManyTiles) {
    for (const Shape& shape :
         {Shape{640, 1000}, Shape{1000, 640}, Shape{4096, 1024}, Shape{1, 70'000}}) {
        expect_decomposed({.rule = {}, .transpose = true},
                          {random_tensor(Dtype::bf16, shape, 1, 5)});
    }
}

TEST(CurrentQuantise, ComputesWhatItQuantises) {
    for (const Dtype to : {Dtype::e4m3, Dtype::e5m2}) {
        for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
            for (const Shape& shape : {Shape{3, 40}, Shape{130, 264}, Shape{129, 7}}) {
                SCOPED_TRACE(to_string(Type{dtype, shape}));
                const auto x = [&](std::uint64_t seed) {
                    return random_tensor(dtype, shape, seed, 2);
                };
                CurrentQuantise op{
                    .rule = {.to = to}, .of = QuantiseSource::swiglu, .transpose = true};
                expect_decomposed(op, {x(1), x(2)});
                op.of = QuantiseSource::gelu;
                expect_decomposed(op, {x(3)});
                op.of = QuantiseSource::gelu_grad;
                expect_decomposed(op, {x(4), x(5)});
                op.of = QuantiseSource::joined_swiglu;
                if (shape.last() % 2 == 0) expect_decomposed(op, {x(6)});
                op.of = QuantiseSource::normalise;
                const auto vector = [](std::int64_t n, std::uint64_t seed) {
                    return random_tensor(Dtype::f32, {n}, seed);
                };
                const std::int64_t m = shape[0], n = shape[1];
                expect_decomposed(op, {x(7), vector(n, 8), vector(m, 9)});
                expect_decomposed(
                    op, {x(10), vector(n, 11), vector(n, 12), vector(m, 13), vector(m, 14)});
            }
        }
    }
}

TEST(CurrentQuantise, MultipliesBeforeThat) {
    for (const ScaleAlong& scaled : {ScaleAlong{Axis::row, true}, ScaleAlong{Axis::column, true},
                                     ScaleAlong{Axis::row}, ScaleAlong{Axis::column}}) {
        for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
            for (const Shape& shape : {Shape{3, 40}, Shape{130, 264}, Shape{129, 7}}) {
                SCOPED_TRACE(to_string(Type{dtype, shape}));
                const std::int64_t n = scaled.axis == Axis::row ? shape[0] : shape[1];
                HostTensor factors = random_tensor(Dtype::f32, {n}, 9);
                for (double& f : factors.values) f = static_cast<float>(std::abs(f) + 0.01);
                factors = tensor(Dtype::f32, {n}, factors.values);
                CurrentQuantise op{
                    .rule = {}, .of = QuantiseSource::swiglu, .transpose = true, .scaled = scaled};
                const auto x = [&](std::uint64_t seed) {
                    return random_tensor(dtype, shape, seed, 2);
                };
                expect_decomposed(op, {x(1), x(2), factors});
                op.of = QuantiseSource::value;
                expect_decomposed(op, {x(3), factors});
            }
        }
    }
}

TEST(CurrentQuantise, ZerosAndWhatIsNotFinite) {
    const CurrentQuantise op{.rule = {}, .transpose = true};
    const auto scale_of = [&](const std::vector<double>& x) {
        const HostTensor row = tensor(Dtype::f32, {1, std::ssize(x)}, x);
        expect_decomposed(op, {row});
        return run(as_is(op), {row, scalar(2)})[1].values[0];
    };
    EXPECT_EQ(scale_of({0, -0.0, 0}), 1);
    EXPECT_EQ(scale_of({1, 0, 448}), 1);
    EXPECT_EQ(scale_of({1, 0, 449}), 2);
    for (const double bad : {kInf, -kInf, kNan}) EXPECT_TRUE(std::isnan(scale_of({1, bad, 2})));
    for (const Shape& shape : {Shape{0, 4}, Shape{4, 0}}) {
        expect_decomposed(op, {tensor(Dtype::bf16, shape, {})});
    }
}

TEST(CurrentQuantise, Refusals) {
    const Type x{Dtype::bf16, {4, 8}}, one{Dtype::f32, {1}};
    EXPECT_EQ(refusal(as_is(CurrentQuantise{{.to = Dtype::f16}}), {x, one}),
              "current_quantise: expected e4m3 or e5m2, got f16");
    EXPECT_EQ(refusal(as_is(CurrentQuantise{}), {x}),
              "current_quantise: expected two operands or more, got 1");
    EXPECT_EQ(refusal(as_is(CurrentQuantise{.rule = {}, .of = QuantiseSource::swiglu_grad}),
                      {x, x, x, one}),
              "current_quantise: expected a source of one result");
    EXPECT_EQ(
        refusal(as_is(CurrentQuantise{.rule = {}, .transpose = true}), {{Dtype::bf16, {8}}, one}),
        "current_quantise: expected a matrix to transpose, got bf16[8]");
}

}  // namespace
}  // namespace octavo::test
