// Ops with exponents are the same ops on operands and results times powers of two: in f32, bit for
// bit.
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

HostTensor times(const HostTensor& x, int exponent) {
    std::vector<double> values = x.values;
    for (double& v : values) v = std::ldexp(v, exponent);
    return tensor(x.type.dtype, x.type.shape, values);
}

// op(in) = results of `plain` on in[i] 2^factors[i], times 2^results[k].
void expect_exponents(const Op& op, const Op& plain, const std::vector<HostTensor>& in,
                      const std::vector<int>& factors, const std::vector<int>& results) {
    SCOPED_TRACE(op_name(op));
    std::vector<HostTensor> scaled;
    for (std::size_t i = 0; i < in.size(); ++i) {
        scaled.push_back(factors[i] == 0 ? in[i] : times(in[i], factors[i]));
    }
    const auto got = run(as_is(op), in), want = run(as_is(plain), scaled);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t k = 0; k < got.size(); ++k) {
        expect_identical(got[k], results[k] == 0 ? want[k] : times(want[k], results[k]));
    }
}

// Small enough for gates to stay clear of subnormal numbers.
HostTensor random(std::uint64_t seed, Shape shape = {9, 264}) {
    return random_tensor(Dtype::f32, shape, seed, 0.25);
}

TEST(Exponents, Sums) {
    expect_exponents(Add{-3, 2}, Add{}, {random(1), random(2)}, {-3, 2}, {0});
    expect_exponents(BiasAdd{-3, 2}, BiasAdd{}, {random(1), random(2, {264})}, {-3, 2}, {0});
}

TEST(Exponents, Gates) {
    for (const int e : {-2, 3}) {
        expect_exponents(Silu{e}, Silu{}, {random(1)}, {e}, {-e});
        expect_exponents(Gelu{e}, Gelu{}, {random(1)}, {e}, {-e});
        expect_exponents(SiluGrad{e}, SiluGrad{}, {random(1), random(2)}, {e, 0}, {0});
        expect_exponents(GeluGrad{e}, GeluGrad{}, {random(1), random(2)}, {e, 0}, {0});
        expect_exponents(SwiGlu{e}, SwiGlu{}, {random(1), random(2)}, {e, 0}, {-e});
        expect_exponents(SwiGluGrad{e}, SwiGluGrad{}, {random(1), random(2), random(3)}, {e, 0, 0},
                         {0, -e});
    }
}

TEST(Exponents, Roots) {
    HostTensor x = random(1);
    for (double& v : x.values) v = std::abs(v);
    x = tensor(Dtype::f32, x.type.shape, x.values);
    for (const int e : {-3, 1, 4}) {
        expect_exponents(Sqrt{e}, Sqrt{}, {x}, {e}, {0});
        expect_exponents(Rsqrt{e}, Rsqrt{}, {x}, {e}, {0});
    }
}

TEST(Exponents, Exponentials) {
    for (const std::int64_t c : {7, 264, 2056}) {
        const HostTensor x = random(1, {9, c}), y = random(2, {9, c});
        expect_exponents(Exp{3}, Exp{}, {x}, {3}, {0});
        expect_exponents(Softmax{3, 5}, Softmax{}, {x}, {3}, {5});
        expect_exponents(SoftmaxGrad{-5}, SoftmaxGrad{}, {x, y}, {-5, 0}, {5});
    }
}

TEST(Exponents, Selections) {
    expect_exponents(Select{-3, 2}, Select{}, {random_ids({9, 264}, 2, 1), random(2), random(3)},
                     {0, -3, 2}, {0});
}

TEST(Exponents, GradientsOfGates) {
    const HostTensor x = random_tensor(Dtype::f64, {3, 7}, 1),
                     y = random_tensor(Dtype::f64, {3, 7}, 2);
    check_gradient(as_is(Silu{-2}), {x}, {0});
    check_gradient(as_is(Gelu{1}), {x}, {0});
    check_gradient(as_is(SwiGlu{-2}), {x, y}, {0, 1});
}

TEST(Exponents, CrossEntropy) {
    for (const std::int64_t v : {7, 130}) {
        const HostTensor x = random(1, {5, v}), targets = random_ids({5}, v, 3);
        const HostTensor weight = scalar(0.2);
        expect_exponents(CrossEntropy{2}, CrossEntropy{}, {x, targets, weight}, {2, 0, 0}, {0, 0});
        const HostTensor lse = run(as_is(CrossEntropy{2}), {x, targets, weight})[1];
        expect_exponents(CrossEntropyGrad{2, 5}, CrossEntropyGrad{},
                         {x, targets, lse, weight, scalar(3)}, {2, 0, 0, 0, 0}, {5});
    }
}

TEST(Exponents, GradientOfCrossEntropy) {
    const HostTensor targets = tensor(Dtype::i32, {3}, {2, -1, 0});
    const Build loss = [](Builder& b, const Values& in) {
        return Values{b.emit(CrossEntropy{1}, in)[0]};
    };
    check_gradient(loss,
                   {random_tensor(Dtype::f64, {3, 5}, 1), targets, tensor(Dtype::f64, {1}, {0.5})},
                   {0}, 1e-6, 1e-5);
}

TEST(Exponents, Casts) {
    for (const Dtype to : {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::e4m3, Dtype::e5m2}) {
        for (const Dtype from : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
            const HostTensor x = random_tensor(from, {9, 264}, 1, 0.1);
            expect_exponents(Cast{to, 3}, Cast{to}, {x}, {3}, {0});
        }
    }
}

TEST(Exponents, CastsWithTransposedCopies) {
    // Whole tiles, parts of tiles, and extents that no tile fits.
    for (const Shape& shape : {Shape{256, 128}, Shape{48, 2, 80}, Shape{5, 7}}) {
        for (const Dtype to : {Dtype::e4m3, Dtype::e5m2, Dtype::f16}) {
            for (const Dtype from : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
                const HostTensor x = random_tensor(from, shape, 1, 10);
                const Cast op{.to = to, .exponent = -2, .transpose = true};
                const auto fused = run(as_is(op), {x}), parts = run(decomposed(op), {x});
                expect_identical(fused[0], parts[0]);
                expect_identical(fused[1], parts[1]);
            }
        }
    }
}

TEST(Exponents, TheFusedHead) {
    for (const Dtype dtype : {Dtype::f32, Dtype::f16}) {
        for (const std::int64_t chunk : {4, 16}) {
            const HeadLoss op{
                .chunk = chunk,
                .exponents = {.fprop = -2, .dgrad = -3, .wgrad = 1, .logits = 1, .gradient = 4}};
            const std::vector<HostTensor> in{random_tensor(dtype, {16, 32}, 1),
                                             random_tensor(dtype, {48, 32}, 2),
                                             random_ids({16}, 48, 3), scalar(0.25), scalar(0.5)};
            const auto fused = run(as_is(op), in), parts = run(decomposed(op), in);
            const double tolerance = 16 * rounding(dtype);
            for (std::size_t k = 0; k < 3; ++k) expect_close(fused[k], parts[k].values, tolerance);
        }
    }
}

}  // namespace
}  // namespace octavo::test
