// The scale rules of ops, against published and derived examples (arXiv 2407.17353).
#include <numbers>

#include "base/power.h"
#include "graph/scaled.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

// An operand: data and the exponent of its scale, and that of its size where it differs.
struct Operand {
    HostTensor data;
    int exponent = 0;
    std::optional<int> size = {};
    bool any = false;
};

struct Result {
    HostTensor data;
    Exponent scale, size;
};

// The op by its scale rule.
std::vector<Result> propagated(const Op& op, const std::vector<Operand>& in,
                               const ScaleOptions& options = {}) {
    ScaledValues out;
    std::vector<HostTensor> data;
    for (const Operand& o : in) data.push_back(o.data);
    const auto results = run(
        [&](Builder& b, const Values& values) {
            ScaleBuilder s(b, options);
            ScaledValues operands;
            for (std::size_t i = 0; i < in.size(); ++i) {
                const Exponent e{.offset = in[i].exponent, .any = in[i].any};
                Scaled x{values[i], e};
                if (in[i].size) x.size.offset = *in[i].size;
                operands.push_back(x);
            }
            out = rules_of(op).scale(s, op, operands);
            Values found;
            for (const Scaled& x : out) {
                // An output of its own, for a view has none.
                found.push_back(is_fp8(b.dtype(x.data)) ? x.data : b.one(Concat{}, {x.data}));
                if (x.scale.base) found.push_back(x.scale.base);
            }
            return found;
        },
        data);
    std::vector<Result> found;
    std::size_t next = 0;
    for (const Scaled& x : out) {
        found.push_back({results[next++], x.scale, x.size});
        if (!x.scale.base) continue;
        found.back().scale = {.offset = x.scale.offset + std::ilogb(results[next++].values[0])};
    }
    return found;
}

void expect_result(const Result& r, const std::vector<double>& data, int exponent,
                   double tolerance = 0) {
    expect_close(r.data, data, tolerance, 0);
    EXPECT_EQ(r.scale.offset, exponent);
}

HostTensor f32(const std::vector<double>& values) { return vector(Dtype::f32, values); }

TEST(ScaleRules, Exponents) {
    EXPECT_EQ(floor_log2(2.1), 1);
    EXPECT_EQ(floor_log2(-0.3), -2);
    EXPECT_EQ(floor_log2(0.51), -1);
    EXPECT_EQ(floor_log2(65500), 15);
    EXPECT_EQ(floor_power(2.1f), 2);
    EXPECT_EQ(floor_power(0.3f), 0.25f);
    EXPECT_EQ(floor_power(0.51f), 0.5f);
    EXPECT_EQ(floor_power(65500), 32768);
    EXPECT_EQ(floor_power(0), 0);
    for (const std::int64_t n : {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 768, 1024, 11008, 1 << 20}) {
        EXPECT_EQ(sum_exponent(n), floor_log2(std::sqrt(static_cast<double>(n)))) << n;
    }
    for (const std::int64_t v : {32000, 50257}) EXPECT_EQ(softmax_gradient_exponent(v), -8);
    for (const std::int64_t v : {128256, 151936}) EXPECT_EQ(softmax_gradient_exponent(v), -9);
    for (const std::int64_t t : {512, 1024}) EXPECT_EQ(attention_exponent(t), -2);
    for (const std::int64_t t : {2048, 4096, 8192, 32768}) EXPECT_EQ(attention_exponent(t), -3);
    EXPECT_EQ(attention_exponent(1), 0);
    EXPECT_EQ(softmax_gradient_exponent(1), 0);
}

TEST(ScaleRules, Constants) {
    expect_result(propagated(Constant{{Dtype::f32, {1}}, -6.5}, {})[0], {-1.625}, 2);
    EXPECT_TRUE(propagated(Constant{{Dtype::f32, {1}}, 0}, {})[0].scale.any);
}

TEST(ScaleRules, Sums) {
    const HostTensor x = f32({.5, 1}), y = f32({.75, 1.5});
    expect_result(propagated(Add{}, {{x, 1}, {y, 2}})[0], {1, 2}, 2);
    expect_result(propagated(Add{}, {{x, -3}, {y, 0, {}, true}})[0], {1.25, 2.5}, -3);
    // By size: the data of y is brought to it on the way.
    expect_result(propagated(Add{}, {{x, 1}, {y, 0, 2}})[0], {.4375, .875}, 2);
    const HostTensor rows = tensor(Dtype::f32, {1, 2}, {.5, 1});
    expect_result(propagated(BiasAdd{}, {{rows, 1}, {y, 2}})[0], {1, 2}, 2);
    const auto side = propagated(Concat{}, {{f32({1, 2}), 2}, {f32({3}), 0}});
    expect_result(side[0], {1, 2, 0.75}, 2);
}

TEST(ScaleRules, Products) {
    const auto product = [](std::int64_t k, int a, int b) {
        const HostTensor x = random_tensor(Dtype::f32, {8, k}, 1);
        const HostTensor w = random_tensor(Dtype::f32, {64, k}, 2);
        return propagated(Matmul{.trans_b = true}, {{x, a}, {w, b}})[0];
    };
    EXPECT_EQ(product(1024, 7, 6).scale.offset, 18);
    EXPECT_EQ(product(5, 1, 2).scale.offset, 4);
    // What an operand lacks to its size goes into the product's factor.
    const HostTensor one = tensor(Dtype::f32, {1, 1}, {3});
    expect_result(propagated(Matmul{}, {{one, 0, -6}, {one, 0}})[0], {576}, -6);
}

// Scales are rounded in many places, each of them down: products by sum_exponent, sums by taking
// the larger scale, attention and gradients of logits by floor_log2, measurements by floor_power.
// What other roundings would make of data follows from the same values, over another scale.
struct PowersNear {
    int down, nearest, up, published_up;
};

PowersNear powers_near(double size) {
    const int down = floor_log2(size);
    const double over = size / std::ldexp(1, down);  // in [1, 2)
    // The paper's code takes 4 up to 8.
    return {down, down + (over > 1.5 ? 1 : 0), down + (over > 1 ? 1 : 0), down + 1};
}

double distance_from_1(double rms) { return std::abs(std::log2(rms)); }

double rms_of(const HostTensor& x) {
    double squares = 0;
    for (const double v : x.values) squares += v * v;
    return std::sqrt(squares / static_cast<double>(x.values.size()));
}

// Sums of unit branches stay at scale 1 and grow by their data. Rounded up, the scale would double
// with each.
TEST(ScaleRules, ResidualStreamsGrowByTheirData) {
    HostTensor x = random_tensor(Dtype::f32, {1 << 14}, 1);
    int nearest = 0, up = 0;
    const auto with_unit = [](int exponent) {
        return powers_near(std::hypot(std::ldexp(1, exponent), 1));
    };
    for (int n = 1; n <= 16; ++n) {
        const HostTensor branch = random_tensor(Dtype::f32, {1 << 14}, 1 + n);
        const auto sum = propagated(Add{}, {{x}, {branch}});
        EXPECT_EQ(sum[0].scale.offset, 0);
        EXPECT_EQ(with_unit(0).down, 0);
        x = sum[0].data;
        nearest = with_unit(nearest).nearest;
        up = with_unit(up).up;
    }
    const double rms = rms_of(x);
    EXPECT_NEAR(rms, 4.123, 0.1);
    EXPECT_EQ(nearest, 0);
    EXPECT_NEAR(std::log2(std::ldexp(rms, -up)), -13.96, 0.05);
}

// Unit data stays within [1, 2), sqrt(K) over a power of two. Where sqrt(K) lies far above it, the
// next one would be nearer.
TEST(ScaleRules, ProductsOfUnitData) {
    struct Case {
        std::int64_t k;
        double down, nearest, up;
    };
    const Case cases[] = {{64, 1, 1, 1},
                          {256, 1, 1, 1},
                          {1024, 1, 1, 1},
                          {4096, 1, 1, 1},
                          {128, 1.414, 1.414, 0.707},
                          {512, 1.414, 1.414, 0.707},
                          {2048, 1.414, 1.414, 0.707},
                          {768, 1.732, 0.866, 0.866},
                          {3072, 1.732, 0.866, 0.866},
                          {11008, 1.639, 0.820, 0.820}};
    double down = 0, nearest = 0, published_up = 0;  // distances from 1, added up
    for (const Case& c : cases) {
        SCOPED_TRACE(c.k);
        const HostTensor x = random_tensor(Dtype::f32, {8, c.k}, 1);
        const HostTensor w = random_tensor(Dtype::f32, {64, c.k}, 2);
        const Result y = propagated(Matmul{.trans_b = true}, {{x}, {w}})[0];
        const PowersNear powers = powers_near(std::sqrt(static_cast<double>(c.k)));
        EXPECT_EQ(y.scale.offset, powers.down);
        const auto rms = [&](int exponent) {
            return std::ldexp(rms_of(y.data), y.scale.offset - exponent);
        };
        EXPECT_NEAR(rms(powers.down), c.down, 0.15);
        EXPECT_NEAR(rms(powers.nearest), c.nearest, 0.15);
        EXPECT_NEAR(rms(powers.up), c.up, 0.15);
        down += distance_from_1(rms(powers.down));
        nearest += distance_from_1(rms(powers.nearest));
        published_up += distance_from_1(rms(powers.published_up));
    }
    EXPECT_LT(down, published_up);
    EXPECT_LT(nearest, down);
}

TEST(ScaleRules, Gates) {
    expect_result(propagated(Silu{}, {{f32({1, -2, 3}), 1}})[0], {0.880797, -0.0359724, 2.992582},
                  1, 1e-6);
    const auto swiglu = propagated(SwiGlu{}, {{f32({1, -2, 3}), 1}, {f32({2, 2, 2}), 3}});
    expect_result(swiglu[0], {1.761594, -0.0719448, 5.985164}, 4, 1e-6);
    const double u = std::sqrt(2 / std::numbers::pi) * (4 + 0.044715 * 64);
    expect_result(propagated(Gelu{}, {{f32({2}), 1}})[0], {1 + std::tanh(u)}, 1, 1e-6);
}

TEST(ScaleRules, Roots) {
    struct Case {
        double x;
        int exponent;
        std::uint32_t root, inverse;  // as bits
        int root_exponent;
    };
    const Case cases[] = {{1, 3, 0x3fb504f3, 0x3f3504f3, 1},
                          {2, -3, 0x40000000, 0x3f000000, -2},
                          {9, 4, 0x40400000, 0x3eaaaaab, 2},
                          {1.5, -1, 0x3fddb3d7, 0x3f13cd3a, -1}};
    for (const Case& c : cases) {
        const Operand x{f32({c.x}), c.exponent};
        expect_result(propagated(Sqrt{}, {x})[0], {std::bit_cast<float>(c.root)}, c.root_exponent);
        expect_result(propagated(Rsqrt{}, {x})[0], {std::bit_cast<float>(c.inverse)},
                      -c.root_exponent);
    }
}

TEST(ScaleRules, Exponentials) {
    expect_result(propagated(Exp{}, {{f32({0, -1, -2, -32768}), 19}})[0], {1, 0, 0, 0}, 0);
    const auto uniform = [](std::int64_t n) {
        return tensor(Dtype::f16, {1, n}, std::vector<double>(static_cast<std::size_t>(n)));
    };
    for (const int s : {-9, 0, 4}) {
        expect_result(propagated(Softmax{}, {{uniform(4), s}})[0], {1, 1, 1, 1}, -2);
    }
    EXPECT_EQ(propagated(Softmax{}, {{uniform(10)}})[0].scale.offset, -3);
    // A lone 1 stays within f16.
    HostTensor one = uniform(1 << 16);
    for (double& v : one.values) v = -100;
    one.values[3] = 100;
    const auto lone = propagated(Softmax{}, {{tensor(Dtype::f16, one.type.shape, one.values)}})[0];
    EXPECT_EQ(lone.scale.offset, -14);
    EXPECT_EQ(lone.data.values[3], 1 << 14);
    // p (g - sum p g) 2^2 for p = 1 / 4
    const HostTensor y = f32({1, 1, 1, 1}), dy = f32({1, 0, 0, 0});
    expect_result(propagated(SoftmaxGrad{}, {{y, -2}, {dy, 6}})[0], {.75, -.25, -.25, -.25}, 4);
}

TEST(ScaleRules, Selections) {
    const HostTensor mask = tensor(Dtype::i32, {2}, {1, 0}), zero = f32({0, 0});
    const HostTensor x = f32({.5, 1}), y = f32({.75, 1.5});
    expect_result(propagated(Select{}, {{mask}, {x, -3}, {zero, 0, {}, true}})[0], {.5, 0}, -3);
    expect_result(propagated(Select{}, {{mask}, {zero, 0, {}, true}, {x, -3}})[0], {0, 1}, -3);
    EXPECT_TRUE(
        propagated(Select{}, {{mask}, {zero, 0, {}, true}, {zero, 0, {}, true}})[0].scale.any);
    expect_result(propagated(Select{}, {{mask}, {x, 1}, {y, 2}})[0], {.25, 1.5}, 2);
    expect_result(propagated(Select{}, {{mask}, {x, 1}, {y, 0, 2}})[0], {.25, .375}, 2);
}

TEST(ScaleRules, RectifiersKeepTheScale) {
    const auto y = propagated(Relu{}, {{f32({-1, 2}), 3, 5}});
    expect_result(y[0], {0, 2}, 3);
    EXPECT_EQ(y[0].size.offset, 5);
    const auto dx = propagated(ReluGrad{}, {{f32({0, 2}), 3}, {f32({4, 5}), -2}});
    expect_result(dx[0], {0, 5}, -2);
}

TEST(ScaleRules, CrossEntropy) {
    const HostTensor x = tensor(Dtype::f32, {1, 4}, {.5, 1, 1.5, 0});
    const HostTensor target = tensor(Dtype::i32, {1}, {2}), weight = scalar(1.0 / 3);
    const auto loss = propagated(CrossEntropy{}, {{x, 1}, {target}, {weight}});
    expect_result(loss[0], {0.4401896 / 3}, 0, 1e-6);
    const HostTensor lse = scalar(3.4401896);
    const auto dx =
        propagated(CrossEntropyGrad{}, {{x, 1}, {target}, {lse}, {weight}, {scalar(1)}});
    expect_result(dx[0], {0.4647698, 1.263375, -1.899124, 0.1709792}, -4, 1e-6);
}

TEST(ScaleRules, NormsAddEpsToValues) {
    const HostTensor x = tensor(Dtype::f32, {1, 2}, {3, 4}), w = f32({1, 1});
    // x is (24, 32): its mean square is 800.
    const auto exact = propagated(RmsNorm{200}, {{x, 3}, {w}});
    expect_result(exact[0], {24 / std::sqrt(1000.0), 32 / std::sqrt(1000.0)}, 0, 1e-6);
    EXPECT_EQ(exact[1].scale.offset, -3);
    const auto data = propagated(RmsNorm{200}, {{x, 3}, {w}}, {.exact_eps = false});
    expect_result(data[0], {3 / std::sqrt(212.5), 4 / std::sqrt(212.5)}, 0, 1e-6);
}

TEST(ScaleRules, AttentionHasTheScaleOfValues) {
    const Shape shape{1, 512, 1, 8};
    const HostTensor q = random_tensor(Dtype::f32, shape, 1),
                     k = random_tensor(Dtype::f32, shape, 2),
                     v = random_tensor(Dtype::f32, shape, 3);
    const Attention op{0.25f};
    const auto o = propagated(op, {{q, 1}, {k, -2}, {v, 5}});
    EXPECT_EQ(o[0].scale.offset, 5);
    EXPECT_EQ(o[0].size.offset, 3);
    expect_identical(o[0].data, run(as_is(Attention{0.125f}), {q, k, v})[0]);
    std::vector<double> begins;
    for (int t = 0; t < 512; ++t) begins.push_back(t / 100 * 100);
    const HostTensor starts = tensor(Dtype::i32, {1, 512}, begins);
    const auto documents = propagated(op, {{q, 1}, {k, -2}, {v, 5}, {starts}});
    expect_identical(documents[0].data, run(as_is(Attention{0.125f}), {q, k, v, starts})[0]);
    const auto plain = propagated(op, {{q, 1}, {k, -2}, {v, 5}}, {.rebalance_attention = false});
    EXPECT_EQ(plain[0].size.offset, 5);
}

TEST(ScaleRules, CastsMayMakeNansOfOverflows) {
    const ScaleOptions options{.nan_casts = true};
    const std::vector<Operand> x{{f32({448, 464, 512}), 3, 3}},
        shifted{{f32({448, 464, 512}), 0, 7}};
    const auto codes = [&](Dtype to, const std::vector<Operand>& in) {
        return code_values(propagated(Cast{to}, in, options)[0].data);
    };
    EXPECT_EQ(codes(Dtype::e4m3, x), (std::vector<int>{0x7E, 0x7E, 0x7F}));
    EXPECT_EQ(codes(Dtype::e4m3, shifted), (std::vector<int>{0x46, 0x46, 0x48}));
    EXPECT_EQ(propagated(Cast{Dtype::f16}, {{f32({1e9}), 0}}, options)[0].data.values[0], 65504);
}

TEST(ScaleRules, CastsBringDataToItsSize) {
    expect_result(propagated(Cast{Dtype::f16}, {{f32({1, 2}), 5, 3}})[0], {4, 8}, 3);
    // 400, 448 and 512 under 128: E4M3 ends at 448, its data does not.
    const auto large = propagated(Cast{Dtype::e4m3}, {{f32({400, 448, 512}), 0, 7}});
    expect_result(large[0], {3, 3.5, 4}, 7);
    EXPECT_EQ(code_values(large[0].data), (std::vector<int>{0x44, 0x46, 0x48}));
    const auto codes =
        run(as_is(Cast{Dtype::e4m3}), {f32({3, 3.5, 4, 600, 0x1p-10, 0x1.8p-10})})[0];
    EXPECT_EQ(code_values(codes), (std::vector<int>{0x44, 0x46, 0x48, 0x7e, 0x00, 0x01}));
    EXPECT_EQ(code_values(run(as_is(Cast{Dtype::e5m2}), {f32({600, -1e9})})[0]),
              (std::vector<int>{0x61, 0xfb}));
}

}  // namespace
}  // namespace octavo::test
