#include "base/scale_rule.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr Axis kAxes[] = {Axis::row, Axis::column};

double silu(double x) { return x / (1 + std::exp(-x)); }

// The factors of the definition, from log2 instead of bits.
std::vector<double> factors(const HostTensor& up, Axis axis, ScaleRounding rounding) {
    const auto columns = static_cast<std::size_t>(up.type.shape.last());
    const auto rows = static_cast<std::size_t>(up.type.shape.rows());
    std::vector<double> amax(axis == Axis::row ? rows : columns, 0x1p-24);
    for (std::size_t i = 0; i < up.values.size(); ++i) {
        double& top = amax[axis == Axis::row ? i / columns : i % columns];
        // An f64 amax is rounded to f32, as all amaxes are.
        top = std::max(top, std::abs(static_cast<double>(static_cast<float>(up.values[i]))));
    }
    if (rounding == ScaleRounding::pow2) {
        for (double& a : amax) a = std::exp2(std::ceil(std::log2(a)));
    }
    return amax;
}

TEST(SmoothSwiGlu, MatchesTheOracle) {
    for (const Axis axis : kAxes) {
        for (const auto of_factors : {ScaleRounding::pow2, ScaleRounding::exact}) {
            for (const Dtype dtype : kPlainDtypes) {
                for (const Shape& shape : kShapes) {
                    SCOPED_TRACE(to_string(Type{dtype, shape}));
                    const std::vector<HostTensor> in = {random_tensor(dtype, shape, 1, 2),
                                                        random_tensor(dtype, shape, 2, 3)};
                    const SmoothSwiGlu op{axis, of_factors};
                    const auto out = run(as_is(op), in);
                    const std::vector<double> s = factors(in[1], axis, of_factors);
                    EXPECT_EQ(out[1].values, s);
                    std::vector<double> want;
                    for (std::size_t i = 0; i < in[0].values.size(); ++i) {
                        const auto columns = static_cast<std::size_t>(shape.last());
                        const double f = s[axis == Axis::row ? i / columns : i % columns];
                        want.push_back(silu(in[0].values[i]) * in[1].values[i] / f);
                    }
                    const double steps = 10 * rounding(accumulator(dtype));
                    expect_each(out[0], want, tolerance(dtype, 10),
                                (dtype == Dtype::f16 ? 0x1p-25 : 0) + steps);
                    expect_same_in_place(op, in);
                }
            }
        }
    }
}

TEST(SmoothSwiGlu, ReportsTheAmaxOfWhatItStored) {
    for (const Axis axis : kAxes) {
        for (const Shape& shape : kShapes) {
            const std::vector<HostTensor> in = {random_tensor(Dtype::bf16, shape, 1),
                                                random_tensor(Dtype::bf16, shape, 2)};
            const SmoothSwiGlu op{.axis = axis, .amax = true};
            const auto fused = run(as_is(op), in), apart = run(decomposed(op), in);
            ASSERT_EQ(fused.size(), 3u);
            for (std::size_t k = 0; k < 3; ++k) expect_identical(fused[k], apart[k]);
        }
    }
}

TEST(SmoothSwiGlu, Gradient) {
    const std::vector<HostTensor> in = {random_tensor(Dtype::f64, {5, 7}, 1),
                                        random_tensor(Dtype::f64, {5, 7}, 2)};
    for (const Axis axis : kAxes) {
        // As if the factors were constant, which powers of two are from one step of the
        // differences to the next.
        const Build quotient = [axis](Builder& b, const Values& x) {
            return Values{b.emit(SmoothSwiGlu{.axis = axis}, x)[0]};
        };
        check_gradient(quotient, in, {0, 1});
        // Multiplied back it does not matter: with the factors that move with `up`, too.
        for (const auto rounding : {ScaleRounding::pow2, ScaleRounding::exact}) {
            const Build whole = [axis, rounding](Builder& b, const Values& x) {
                const Values out = b.emit(SmoothSwiGlu{axis, rounding}, x);
                return Values{b.one(ScaleAlong{axis}, out)};
            };
            check_gradient(whole, in, {0, 1});
        }
    }
}

// A row or column of zeros, or none at all, gets the smallest factor, and zeros.
TEST(SmoothSwiGlu, NothingToDivide) {
    const HostTensor gate = tensor(Dtype::f32, {2, 2}, {1, 2, 3, 4});
    const HostTensor up = tensor(Dtype::f32, {2, 2}, {0, 1, 0, 0});
    const auto rows = run(as_is(SmoothSwiGlu{Axis::row}), {gate, up});
    EXPECT_EQ(rows[1].values, (std::vector<double>{1, 0x1p-24}));
    EXPECT_EQ(rows[0].values[2], 0);
    EXPECT_EQ(rows[0].values[3], 0);
    const auto columns = run(as_is(SmoothSwiGlu{Axis::column}), {gate, up});
    EXPECT_EQ(columns[1].values, (std::vector<double>{0x1p-24, 1}));
    EXPECT_EQ(columns[0].values[0], 0);
    const HostTensor none = tensor(Dtype::f32, {0, 2}, {});
    const auto idle = run(as_is(SmoothSwiGlu{.axis = Axis::column, .amax = true}), {none, none});
    EXPECT_EQ(idle[1].values, (std::vector<double>{0x1p-24, 0x1p-24}));
    EXPECT_EQ(idle[2].values, (std::vector<double>{0}));
}

// What is not finite makes NaNs of its row or column, and of nothing else.
TEST(SmoothSwiGlu, PoisonsWhatIsNotFinite) {
    const HostTensor gate = tensor(Dtype::f32, {2, 2}, {1, 2, 3, 4});
    for (const double bad : {kInf, -kInf, kNan}) {
        const HostTensor up = tensor(Dtype::f32, {2, 2}, {bad, 1, 1, 1});
        for (const Axis axis : kAxes) {
            const auto out = run(as_is(SmoothSwiGlu{.axis = axis, .amax = true}), {gate, up});
            const std::vector<bool> poisoned = axis == Axis::row
                                                   ? std::vector{true, true, false, false}
                                                   : std::vector{true, false, true, false};
            for (std::size_t i = 0; i < 4; ++i) {
                EXPECT_EQ(std::isnan(out[0].values[i]), poisoned[i]) << i;
            }
            EXPECT_TRUE(std::isnan(out[1].values[0]));
            EXPECT_EQ(out[1].values[1], 1);
            EXPECT_TRUE(std::isnan(out[2].values[0]));
        }
    }
}

TEST(SmoothSwiGlu, SameOnAnyThreads) {
    const std::vector<HostTensor> in = {random_tensor(Dtype::bf16, {300, 264}, 1),
                                        random_tensor(Dtype::bf16, {300, 264}, 2)};
    for (const Axis axis : kAxes) {
        expect_same_on_any_threads(as_is(SmoothSwiGlu{.axis = axis, .amax = true}), in);
    }
}

TEST(SmoothFactor, IsABoundAndAPowerOfTwo) {
    EXPECT_EQ(smooth_factor(4, ScaleRounding::pow2), 4);
    EXPECT_EQ(smooth_factor(4.0001f, ScaleRounding::pow2), 8);
    EXPECT_EQ(smooth_factor(4.0001f, ScaleRounding::exact), 4.0001f);
    EXPECT_EQ(smooth_factor(0x1p-30f, ScaleRounding::pow2), 0x1p-24f);
    EXPECT_EQ(smooth_factor(0, ScaleRounding::exact), 0x1p-24f);
    EXPECT_EQ(smooth_factor(0x1p127f, ScaleRounding::pow2), 0x1p126f);  // its inverse is normal
    EXPECT_TRUE(std::isnan(smooth_factor(INFINITY, ScaleRounding::pow2)));
    EXPECT_TRUE(std::isnan(smooth_factor(NAN, ScaleRounding::exact)));
}

// ---- Golden vectors ----------------------------------------------------------------------------

const HostTensor kGate = tensor(Dtype::f32, {3, 3}, {1, -2, 3, 30, 0.5, -1, 1, 2, 3});
const HostTensor kUp = tensor(Dtype::f32, {3, 3}, {0.5, 3, -1, 30, 0.25, -0.5, 0, 0, 0});

// x in E4M3 under a power of two from its own amax.
Value quantised(Builder& b, Value x) {
    const Value one = b.constant({Dtype::f32, {1}}, 1);
    const Value scale = b.one(ComputeScale{}, {b.one(Amax{}, {x}), one});
    return b.one(Quantise{Dtype::e4m3}, {x, scale});
}

TEST(SmoothSwiGlu, GoldenCodes) {
    struct Golden {
        Axis axis;
        std::vector<double> s;
        std::vector<int> codes;
    };
    const Golden cases[] = {
        {Axis::row, {4, 32, 0x1p-24}, {0x34, 0xBB, 0xCB, 0x76, 0x0A, 0x11, 0, 0, 0}},
        {Axis::column, {32, 4, 1}, {0x1C, 0xBB, 0xDB, 0x76, 0x22, 0x39, 0, 0, 0}},
    };
    const std::vector<double> decoded = {.375, -.6875, -2.75, 896, .078125, .140625, 0, 0, 0};
    for (const Golden& want : cases) {
        const auto out = run(
            [&](Builder& b, const Values& in) {
                const Values smooth = b.emit(SmoothSwiGlu{want.axis}, in);
                const Value q = quantised(b, smooth[0]);
                const Value back = b.one(Dequantise{Dtype::f32}, {q});
                return Values{q, smooth[1], b.one(ScaleAlong{want.axis}, {back, smooth[1]})};
            },
            {kGate, kUp});
        EXPECT_EQ(code_values(out[0]), want.codes);
        EXPECT_EQ(out[0].scales, (std::vector<float>{0x1p-3f}));
        EXPECT_EQ(out[1].values, want.s);
        EXPECT_EQ(out[2].values, decoded);
    }
    const auto plain = run(
        [&](Builder& b, const Values& in) {
            const Value q = quantised(b, b.one(SwiGlu{}, in));
            return Values{q, b.one(Dequantise{Dtype::f32}, {q})};
        },
        {kGate, kUp});
    EXPECT_EQ(code_values(plain[0]),
              (std::vector<int>{0x1C, 0xA3, 0xB3, 0x76, 0x0A, 0x11, 0, 0, 0}));
    EXPECT_EQ(plain[0].scales, (std::vector<float>{4}));
    EXPECT_EQ(plain[1].values, decoded);
}

// Under the scale of an amax of 2.86, a spike of 900 becomes 3.5.
TEST(SmoothSwiGlu, AScaleOfThePastClips) {
    const auto out = run(
        [&](Builder& b, const Values& in) {
            const Value one = b.constant({Dtype::f32, {1}}, 1);
            const Value past = b.constant({Dtype::f32, {1}}, 2.86);
            const Value scale = b.one(ComputeScale{}, {past, one});
            return Values{b.one(Quantise{Dtype::e4m3}, {b.one(SwiGlu{}, in), scale})};
        },
        {kGate, kUp});
    EXPECT_EQ(out[0].scales, (std::vector<float>{0x1p-7f}));
    EXPECT_EQ(code_values(out[0])[3], 0x7E);
    EXPECT_EQ(out[0].values[3], 3.5);
}

TEST(ScaleAlong, GoldenFold) {
    const HostTensor w = tensor(Dtype::f32, {3, 2}, {.5, -.25, 1, .125, -.75, 2});
    const HostTensor s = vector(Dtype::f32, {32, 4, 1});
    const auto out = run(
        [](Builder& b, const Values& in) {
            const Value folded = b.one(ScaleAlong{Axis::row}, in);
            return Values{folded, quantised(b, folded)};
        },
        {w, s});
    EXPECT_EQ(out[0].values, (std::vector<double>{16, -8, 4, .5, -.75, 2}));
    EXPECT_EQ(code_values(out[1]), (std::vector<int>{0x78, 0xF0, 0x68, 0x50, 0xD4, 0x60}));
    EXPECT_EQ(out[1].scales, (std::vector<float>{0x1p-4f}));
}

// Columns split over two owners, each with factors of its own or of both: the same output, since
// factors are multiplied back before the partial outputs are added.
TEST(SmoothSwiGlu, ShardsMayShareFactorsOrNot) {
    EXPECT_EQ(smooth_factor(std::max(3.0f, 5.0f), ScaleRounding::pow2), 8);
    const HostTensor gate = random_tensor(Dtype::f32, {16, 64}, 1);
    const HostTensor up = random_tensor(Dtype::f32, {16, 64}, 2);
    const HostTensor w = random_tensor(Dtype::f32, {64, 8}, 3);
    const auto out = run(
        [](Builder& b, const Values& in) {
            const auto product = [&](Value g, Value u, Value weight) {
                const Values h = b.emit(SmoothSwiGlu{}, {g, u});
                return b.one(ScaleAlong{}, {b.one(Matmul{}, {h[0], weight}), h[1]});
            };
            const Values g = b.emit(Split{{32, 32}}, {in[0]}), u = b.emit(Split{{32, 32}}, {in[1]});
            const Value rows = b.reshape(in[2], {1, 64 * 8});
            const Values halves = b.emit(Split{{32 * 8, 32 * 8}}, {rows});
            const Value a = product(g[0], u[0], b.reshape(halves[0], {32, 8}));
            const Value c = product(g[1], u[1], b.reshape(halves[1], {32, 8}));
            return Values{product(in[0], in[1], in[2]), b.add(a, c)};
        },
        {gate, up, w});
    expect_close(out[1], out[0].values, 1e-6);
}

// ---- What it is for ----------------------------------------------------------------------------

// With aligned gate and up weights, an input that is ten times as large gives a hundred times as
// much; through GELU, ten times.
TEST(SwiGlu, GrowsQuadraticallyWhereWeightsAlign) {
    const HostTensor x = vector(Dtype::f32, {20, 200});
    const auto swiglu = run(as_is(SwiGlu{}), {x, x})[0].values;
    const auto gelu = run(as_is(Gelu{}), {x})[0].values;
    EXPECT_NEAR(swiglu[1] / swiglu[0], 100, 0.1);
    EXPECT_NEAR(gelu[1] / gelu[0], 10, 0.01);
    const auto smooth = run(as_is(SmoothSwiGlu{}), {tensor(Dtype::f32, {2, 1}, {20, 200}),
                                                    tensor(Dtype::f32, {2, 1}, {20, 200})});
    EXPECT_LT(smooth[0].values[1] / smooth[0].values[0], 13);
}

TEST(SmoothSwiGlu, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(SmoothSwiGlu{}), {{Dtype::f32, {4}}, {Dtype::f32, {3}}}),
              "smooth_swiglu: operands 0 and 1 must have the same type, got f32[4] and f32[3]");
}

// Divided by what it is told, h is SwiGLU over that; s is still its own.
TEST(SmoothSwiGlu, TakesFactorsOfColumns) {
    const SmoothSwiGlu own{.axis = Axis::column}, given{.axis = Axis::column, .given = true};
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        const Shape shape{37, 40};
        const HostTensor gate = random_tensor(dtype, shape, 1), up = random_tensor(dtype, shape, 2);
        std::vector<double> factors(40);
        for (std::size_t i = 0; i < 40; ++i)
            factors[i] = std::ldexp(1.0, static_cast<int>(i % 7) - 3);
        const auto a = run(as_is(own), {gate, up});
        const auto b = run(as_is(given), {gate, up, vector(Dtype::f32, factors)});
        const auto same = run(as_is(given), {gate, up, a[1]});
        expect_identical(b[1], a[1]);
        expect_identical(same[0], a[0]);
        for (std::size_t i = 0; i < b[0].values.size(); ++i) {
            const double want = a[0].values[i] * a[1].values[i % 40] / factors[i % 40];
            EXPECT_NEAR(b[0].values[i], want, rounding(dtype) * 2 * std::abs(want)) << i;
        }
    }
    const HostTensor x = random_tensor(Dtype::f64, {3, 4}, 3),
                     y = random_tensor(Dtype::f64, {3, 4}, 4);
    const auto h = [&](Builder& b, const Values& in) { return Values{b.emit(given, in)[0]}; };
    check_gradient(h, {x, y, tensor(Dtype::f64, {4}, {1, 2, 0.5, 4})}, {0, 1});
    SmoothSwiGlu rows = given;
    rows.axis = Axis::row;
    EXPECT_EQ(refusal(as_is(rows), {{Dtype::f32, {3, 4}}, {Dtype::f32, {3, 4}}, {Dtype::f32, {3}}}),
              "smooth_swiglu: only factors of columns can be given");
}

}  // namespace
}  // namespace octavo::test
