#include "base/scale.h"
#include "base/stochastic.h"
#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

constexpr AdamW kOp{.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f};

struct Moments {
    double w, m, v;
};

// torch/optim/adamw.py, single tensor, in doubles.
Moments oracle(Moments s, double g, double lr, double bias1, double bias2) {
    s.w *= 1 - lr * kOp.weight_decay;
    s.m = s.m * kOp.beta1 + (1.0 - kOp.beta1) * g;
    s.v = s.v * kOp.beta2 + (1.0 - kOp.beta2) * g * g;
    s.w -= lr / bias1 * s.m / (std::sqrt(s.v) / std::sqrt(bias2) + kOp.eps);
    return s;
}

// In the dtype, under the scale that its own amax asks for where it takes one.
HostTensor stored(Dtype dtype, const Shape& shape, const std::vector<double>& values) {
    if (!is_fp8(dtype) && dtype != Dtype::f16) return tensor(dtype, shape, values);
    double top = 0;
    for (double x : values) top = std::max(top, std::abs(x));
    const float scale =
        next_scale(static_cast<float>(top), dtype, ScaleRounding::exact, 0, {}).scale;
    std::vector<double> codes = values;
    for (double& x : codes) x /= scale;
    HostTensor t = tensor(dtype, shape, codes);
    t.type.scaling = kPerTensor;
    t.scales = {scale};
    for (double& x : t.values) x *= scale;
    return t;
}

// The same codes under another scale.
HostTensor under_scale(HostTensor t, float scale) {
    for (double& x : t.values) x *= static_cast<double>(scale) / t.scales[0];
    t.scales = {scale};
    return t;
}

struct Formats {
    Dtype w = Dtype::f32, g = Dtype::f32, m = Dtype::f32, v = Dtype::f32;
};

std::vector<HostTensor> operands(const Shape& shape, double factor, Formats f = {}) {
    HostTensor v = random_tensor(Dtype::f32, shape, 4, 0.1);
    for (double& x : v.values) x *= x;
    return {stored(f.w, shape, random_tensor(Dtype::f32, shape, 1).values),
            stored(f.g, shape, random_tensor(Dtype::f32, shape, 2, 0.1).values),
            stored(f.m, shape, random_tensor(Dtype::f32, shape, 3, 0.1).values),
            stored(f.v, shape, v.values),
            scalar(factor),
            vector(Dtype::f32, {1e-2, 0.19, 0.0975}),
            count(2)};
}

// The same bits over State that the results are stored to, where each takes its operand's place.
void expect_same_in_state(const AdamW& op, const std::vector<HostTensor>& in) {
    const auto plain = run(as_is(op), in);
    Graph graph;
    Builder b(graph);
    Values values;
    for (std::size_t i = 0; i < in.size(); ++i) {
        values.push_back(b.load(fmt::format("t{}", i), in[i].type));
    }
    const Values next = b.emit(op, values);
    for (std::size_t k = 0; k < 3; ++k) b.store(fmt::format("t{}", k == 0 ? 0 : k + 1), next[k]);
    Program program(backend());
    program.add("test", graph);
    program.allocate(std::int64_t{1} << 30);
    for (std::size_t i = 0; i < in.size(); ++i) {
        write_tensor(program.state().tensor(fmt::format("t{}", i)), in[i]);
    }
    program.run("test");
    for (std::size_t k = 0; k < 3; ++k) {
        const auto name = fmt::format("t{}", k == 0 ? 0 : k + 1);
        expect_identical(read_tensor(program.state().tensor(name)), plain[k]);
    }
}

TEST(AdamW, MatchesTheOracle) {
    for (const Shape& shape : kShapes) {
        for (double factor : {1.0, 0.25}) {
            SCOPED_TRACE(to_string(shape));
            const auto in = operands(shape, factor);
            const auto& schedule = in[5].values;
            for_each_kernel(kOp, in, [&](const std::vector<HostTensor>& out) {
                ASSERT_EQ(out[0].values.size(), in[0].values.size());
                for (std::size_t i = 0; i < in[0].values.size(); ++i) {
                    const Moments want =
                        oracle({in[0].values[i], in[2].values[i], in[3].values[i]},
                               in[1].values[i] * factor, schedule[0], schedule[1], schedule[2]);
                    EXPECT_NEAR(out[0].values[i], want.w, 4 * 0x1p-24 * (std::abs(want.w) + 1));
                    EXPECT_NEAR(out[1].values[i], want.m, 4 * 0x1p-24);
                    EXPECT_NEAR(out[2].values[i], want.v, 4 * 0x1p-24 * want.v);
                }
            });
            expect_same_in_state(kOp, in);
        }
    }
}

// Half a quantum of a value in this format: relative above `floor` times the scale, absolute below.
double half_quantum(const HostTensor& t, double x) {
    struct Grid {
        double relative, subnormal;
    };
    const Grid grid = t.type.dtype == Dtype::e4m3   ? Grid{0x1p-4, 0x1p-10}
                      : t.type.dtype == Dtype::e5m2 ? Grid{0x1p-3, 0x1p-17}
                      : t.type.dtype == Dtype::f16  ? Grid{0x1p-11, 0x1p-25}
                      : t.type.dtype == Dtype::bf16 ? Grid{0x1p-8, 0}
                                                    : Grid{0x1p-23, 0x1p-24};
    return std::max(grid.relative * std::abs(x),
                    grid.subnormal * (t.scales.empty() ? 1 : t.scales[0]));
}

TEST(AdamW, KeepsStatesInAnyFormat) {
    const Formats cases[] = {{Dtype::bf16, Dtype::bf16, Dtype::bf16, Dtype::bf16},
                             {Dtype::bf16, Dtype::bf16, Dtype::e4m3, Dtype::f16},
                             {Dtype::f16, Dtype::f32, Dtype::e4m3, Dtype::e5m2},
                             {Dtype::f16, Dtype::e4m3, Dtype::e4m3, Dtype::f16},
                             {Dtype::e4m3, Dtype::f32, Dtype::f32, Dtype::f32},
                             {Dtype::e4m3, Dtype::e4m3, Dtype::e4m3, Dtype::f16},
                             {Dtype::f32, Dtype::e4m3, Dtype::f32, Dtype::f32},
                             {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::e4m3},
                             {Dtype::f32, Dtype::bf16, Dtype::f32, Dtype::f32}};
    for (const Formats& f : cases) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(fmt::format("{} {} {} {} {}", name(f.w), name(f.g), name(f.m), name(f.v),
                                     to_string(shape)));
            const auto in = operands(shape, 0.5, f);
            const auto& schedule = in[5].values;
            const auto out = run(as_is(kOp), in);
            EXPECT_EQ(out[0].type, in[0].type);
            EXPECT_EQ(out[1].type, in[2].type);
            EXPECT_EQ(out[2].type, in[3].type);
            for (std::size_t i = 0; i < in[0].values.size(); ++i) {
                const Moments want =
                    oracle({in[0].values[i], in[2].values[i], in[3].values[i]},
                           in[1].values[i] * 0.5, schedule[0], schedule[1], schedule[2]);
                // w follows from moments that are not rounded yet.
                EXPECT_NEAR(out[0].values[i], want.w, half_quantum(out[0], want.w) + 1e-6);
                EXPECT_NEAR(out[1].values[i], want.m, 1.001 * half_quantum(out[1], want.m) + 1e-7);
                EXPECT_NEAR(out[2].values[i], want.v, 1.001 * half_quantum(out[2], want.v) + 1e-9);
            }
            expect_same_in_state(kOp, in);
        }
    }
}

// Scales that are propagated: the master keeps its own, moments take the powers of two of bounds,
// and values are those of the same step in f32 (arXiv 2407.17353).
TEST(AdamW, TakesScalesFromBounds) {
    AdamW op = kOp;
    op.keep_scale = true;
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(to_string(shape));
        auto in = operands(shape, 0.5, {Dtype::f16, Dtype::f32, Dtype::f16, Dtype::f16});
        in[0] = tensor(Dtype::f16, shape, in[0].values);
        in[0].type.scaling = kPerTensor;
        in[0].scales = {0x1p-2f};
        for (double& w : in[0].values) w *= 0.25;
        in.push_back(vector(Dtype::f32, {0x1.8p-4, 0x1.1p-7}));
        const auto out = run(as_is(op), in);
        EXPECT_EQ(out[0].scales, std::vector{0x1p-2f});
        EXPECT_EQ(out[1].scales, std::vector{0x1p-4f});
        EXPECT_EQ(out[2].scales, std::vector{0x1p-7f});
        std::vector<HostTensor> plain(in.begin(), in.begin() + 7);
        for (const std::size_t i : {0, 2, 3}) plain[i] = tensor(Dtype::f32, shape, in[i].values);
        const auto want = run(as_is(kOp), plain);
        for (std::size_t k = 0; k < 3; ++k) {
            for (std::size_t i = 0; i < want[k].values.size(); ++i) {
                const float code = static_cast<float>(want[k].values[i]) / out[k].scales[0];
                const double rounded = to_f32(f16(code)) * double{out[k].scales[0]};
                EXPECT_EQ(out[k].values[i], rounded) << k << " " << i;
            }
        }
        expect_same_in_state(op, in);
        in[4] = scalar(kNan);  // skipped: everything stays, scales too
        const auto kept = run(as_is(op), in);
        expect_identical(kept[0], in[0]);
        expect_identical(kept[1], in[2]);
        expect_identical(kept[2], in[3]);
    }
}

// sqrt(v') must not vanish under an m' that does not.
TEST(AdamW, SmallSecondMomentsDoNotVanish) {
    AdamW op = kOp;
    op.keep_scale = true;
    op.v_floor = true;
    const auto f16_zeros = [] {
        HostTensor t = tensor(Dtype::f16, {3}, {0, 0, 0});
        t.type.scaling = kPerTensor;
        t.scales = {1};
        return t;
    };
    const auto out =
        run(as_is(op), {vector(Dtype::f32, {1, 1, 1}), vector(Dtype::f32, {1, 1e-6, 0}),
                        f16_zeros(), f16_zeros(), scalar(1), vector(Dtype::f32, {1e-2, 0.1, 0.05}),
                        count(1), vector(Dtype::f32, {0.25, 1})});
    EXPECT_EQ(out[2].values[1], 0x1p-24);
    EXPECT_EQ(out[2].values[2], 0);
}

TEST(AdamW, TakesGradientsInCodesWithoutAScale) {
    const auto in = operands({3, 129}, 0.5);
    std::vector<HostTensor> coded = in, plain = in;
    coded[1] = run(as_is(Cast{Dtype::e5m2}), {in[1]})[0];
    plain[1] = tensor(Dtype::f32, {3, 129}, coded[1].values);
    const auto a = run(as_is(kOp), coded), b = run(as_is(kOp), plain);
    for (std::size_t k = 0; k < 3; ++k) expect_identical(a[k], b[k]);
}

std::vector<int> codes_of(const HostTensor& t) {
    std::vector<int> codes;
    const std::size_t size = size_of(t.type.dtype);
    for (std::size_t at = 0; at < t.codes.size(); at += size) {
        std::uint16_t code = 0;
        std::memcpy(&code, t.codes.data() + at, size);
        codes.push_back(code);
    }
    return codes;
}

// Golden vectors: one weight matrix through two steps, moments in E4M3 and FP16 with exact and with
// power-of-two scales (FP8-LM, arXiv 2310.18313). The master is in FP16 under a power of two either
// way, and the E4M3 codes that products read come from the rounded master.
TEST(AdamW, StatesOfFp8Lm) {
    struct Golden {
        ScaleRounding rounding;
        std::vector<int> m, v;
        double k_m, k_v;
    };
    const std::vector<Golden> steps[] = {{{ScaleRounding::exact,
                                           {0x7E, 0xF6, 0x6E, 0x4C},
                                           {0x7BFF, 0x73FF, 0x6BFF, 0x4A1F},
                                           3584,
                                           1048064},
                                          {ScaleRounding::pow2,
                                           {0x78, 0xF0, 0x68, 0x46},
                                           {0x7800, 0x7000, 0x6800, 0x4620},
                                           0x1p11,
                                           0x1p19}},
                                         {{ScaleRounding::exact,
                                           {0x7E, 0xF6, 0x6E, 0x4C},
                                           {0x7BFF, 0x73FF, 0x6BFF, 0x4A1F},
                                           4096,
                                           1117935},
                                          {ScaleRounding::pow2,
                                           {0x7E, 0xF6, 0x6E, 0x4C},
                                           {0x7B80, 0x7380, 0x6B80, 0x49BE},
                                           0x1p12,
                                           0x1p20}}};
    for (const ScaleRounding rounding : {ScaleRounding::exact, ScaleRounding::pow2}) {
        const AdamW op{.beta1 = 0.875f,
                       .beta2 = 0.9375f,
                       .eps = 0,
                       .weight_decay = 0,
                       .scale_rounding = rounding};
        HostTensor w = stored(Dtype::f16, {4}, {0.5, -0.25, 0.125, 0.0625});
        HostTensor m = stored(Dtype::e4m3, {4}, {0, 0, 0, 0});
        HostTensor v = stored(Dtype::f16, {4}, {0, 0, 0, 0});
        double beta1 = 1, beta2 = 1;
        for (int step = 0; step < 2; ++step) {
            beta1 *= 0.875;
            beta2 *= 0.9375;
            const HostTensor g = step == 0 ? vector(Dtype::f32, {1, -0.5, 0.25, 7.0 / 512})
                                           : vector(Dtype::f32, {0, 0, 0, 0});
            const auto out = run(
                as_is(op), {w, g, m, v, scalar(1),
                            vector(Dtype::f32, {0x1p-6, 1 - beta1, 1 - beta2}), count(step + 1)});
            w = out[0];
            m = out[1];
            v = out[2];
            if (step == 0) {
                EXPECT_EQ(w.values, (std::vector{0.484375, -0.234375, 0.109375, 0.046875}));
                EXPECT_EQ(codes_of(w), (std::vector{0x7BC0, 0xF780, 0x7300, 0x6E00}));
                EXPECT_EQ(w.scales, std::vector{0x1p-17f});
                const HostTensor working = run(
                    [](Builder& b, const Values& in) {
                        const Value one = b.constant({Dtype::f32, {1}}, 1);
                        const ComputeScale rule{{.to = Dtype::e4m3}};
                        const Value scale = b.one(rule, {b.one(Amax{}, in), one});
                        return Values{b.one(Quantise{Dtype::e4m3}, {in[0], scale})};
                    },
                    {w})[0];
                EXPECT_EQ(codes_of(working), (std::vector{0x78, 0xEF, 0x66, 0x5C}));
                EXPECT_EQ(working.scales, std::vector{0x1p-9f});
            }
            for (const Golden& want : steps[step]) {
                if (want.rounding != rounding) continue;
                EXPECT_EQ(codes_of(m), want.m) << step;
                EXPECT_EQ(codes_of(v), want.v) << step;
                EXPECT_NEAR(1 / m.scales[0], want.k_m, 1e-6 * want.k_m);
                EXPECT_NEAR(1 / v.scales[0], want.k_v, 1e-6 * want.k_v);
            }
        }
    }
}

// The clip factor multiplies the scale that FP8 gradients are decoded with.
TEST(AdamW, ClipsAScaledGradientThroughItsScale) {
    const float factor = 0.3f;
    auto in = operands({37, 113}, factor, {Dtype::f16, Dtype::e4m3, Dtype::e4m3, Dtype::f16});
    const auto clipped = run(as_is(kOp), in);
    in[1].scales[0] *= factor;
    in[4] = scalar(1);
    const auto scaled = run(as_is(kOp), in);
    for (std::size_t k = 0; k < 3; ++k) expect_identical(clipped[k], scaled[k]);
}

// What a step is made of, with m in E4M3 and v in FP16, beside the same in f32: independent
// gradients for 600 steps.
TEST(AdamW, NarrowMomentsChangeUpdatesALittle) {
    constexpr std::int64_t kElements = 20000;
    const Shape shape{kElements};
    const std::vector<double> zeros(kElements, 0);
    const AdamW op{.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0};
    Graph graph;
    Builder b(graph);
    const Value g = b.input("g", {Dtype::f32, shape});
    const Value schedule = b.input("schedule", {Dtype::f32, {3}});
    const Value step = b.input("step", {Dtype::i32, {1}});
    const Value zero = b.constant({Dtype::f32, shape}, 0);
    for (const bool narrow : {false, true}) {
        const std::string which = narrow ? "narrow" : "wide";
        const Type m_type{narrow ? Dtype::e4m3 : Dtype::f32, shape,
                          narrow ? kPerTensor : kUnscaled};
        const Type v_type{narrow ? Dtype::f16 : Dtype::f32, shape, m_type.scaling};
        const Value m = b.load("m." + which, m_type), v = b.load("v." + which, v_type);
        const Value factor = b.constant({Dtype::f32, {1}}, 1);
        // From w = 0 with a rate of 1, w' is the update.
        const Values next = b.emit(op, {zero, g, m, v, factor, schedule, step});
        b.output(which, next[0]);
        b.store("m." + which, next[1]);
        b.store("v." + which, next[2]);
    }
    Program program(backend());
    program.add("test", graph);
    program.allocate(std::int64_t{1} << 30);
    initialise_scales(program.state());
    Plan& plan = program.plan("test");
    double beta1 = 1, beta2 = 1;
    for (int t = 1; t <= 600; ++t) {
        beta1 *= op.beta1;
        beta2 *= op.beta2;
        write_tensor(plan.input("g"), random_tensor(Dtype::f32, shape, 1000 + t));
        write_tensor(plan.input("schedule"), vector(Dtype::f32, {1, 1 - beta1, 1 - beta2}));
        write_tensor(plan.input("step"), count(t));
        program.run("test");
    }
    const auto wide = read_tensor(plan.output("wide")).values;
    const auto narrow = read_tensor(plan.output("narrow")).values;
    double error = 0, squares = 0, narrow_squares = 0;
    for (std::size_t i = 0; i < wide.size(); ++i) {
        error += std::pow(narrow[i] - wide[i], 2);
        squares += wide[i] * wide[i];
        narrow_squares += narrow[i] * narrow[i];
    }
    EXPECT_NEAR(std::sqrt(error / squares), 0.055, 0.005);
    EXPECT_NEAR(std::sqrt(narrow_squares / squares), 0.998, 0.005);
}

TEST(AdamW, RoundsStochasticallyByStreamStepAndElement) {
    const Shape shape{37, 113};
    AdamW op = kOp;
    op.stochastic = true;
    op.stream = 0x123456789ABCDEF0;
    const auto exact = operands(shape, 1);
    auto in = exact;
    for (const std::size_t i : {0, 2, 3}) in[i] = tensor(Dtype::bf16, shape, exact[i].values);
    auto wide = in;  // the same values
    for (const std::size_t i : {0, 2, 3}) wide[i] = tensor(Dtype::f32, shape, in[i].values);
    const auto want = run(as_is(kOp), wide);
    const auto got = run(as_is(op), in);
    for (int k = 0; k < 3; ++k) {
        const auto& exact_states = want[static_cast<std::size_t>(k)];
        const auto& rounded_states = got[static_cast<std::size_t>(k)];
        double error = 0, spread = 0;
        for (std::size_t i = 0; i < exact_states.values.size(); ++i) {
            const RoundingNoise noise(op.stream, 2, i / 8);
            const bf16 rounded = round_stochastically(static_cast<float>(exact_states.values[i]),
                                                      noise(k, static_cast<int>(i % 8)));
            ASSERT_EQ(rounded_states.values[i], static_cast<double>(static_cast<float>(rounded)))
                << k << " " << i;
            error += rounded_states.values[i] - exact_states.values[i];
            spread += std::pow(rounded_states.values[i] - exact_states.values[i], 2);
        }
        // Right on average: the sum of n errors is no larger than four of its standard deviations.
        EXPECT_LE(std::abs(error), 4 * std::sqrt(spread)) << k;
        EXPECT_GT(spread, 0);
    }
    expect_same_in_state(op, in);
    in[6] = count(3);
    EXPECT_NE(run(as_is(op), in)[0].codes, got[0].codes);
    in[6] = count(2);
    op.stream += 1;
    EXPECT_NE(run(as_is(op), in)[0].codes, got[0].codes);
}

TEST(RoundingNoise, NumbersOfAPacketDoNotRepeatEachOther) {
    constexpr int kPackets = 512;
    for (int a = 0; a < 24; ++a) {
        for (int b = 0; b < a; ++b) {
            int equal = 0;
            double product = 0;  // of centred values: near zero if they are not correlated
            for (int packet = 0; packet < kPackets; ++packet) {
                const RoundingNoise noise(7, 3, static_cast<std::uint64_t>(packet));
                const auto x = noise(a / 8, a % 8), y = noise(b / 8, b % 8);
                equal += x == y ? 1 : 0;
                product += (x / 65536.0 - 0.5) * (y / 65536.0 - 0.5);
            }
            EXPECT_LE(equal, 3) << a << " " << b;
            // Five standard deviations of the mean of 512 products of uniform numbers.
            EXPECT_LE(std::abs(product / kPackets), 5.0 / 12 / std::sqrt(kPackets))
                << a << " " << b;
        }
    }
}

TEST(AdamW, ReportsTheAmaxOfWhatItStored) {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::e4m3}) {
        for (const double factor : {1.0, kNan}) {
            AdamW op = kOp;
            op.amax = true;
            op.stochastic = true;
            const auto in = operands({37, 113}, factor, {.w = dtype});
            for_each_kernel(op, in, [&](const std::vector<HostTensor>& out) {
                ASSERT_EQ(out.size(), 4u);
                double top = 0;
                for (double x : out[0].values) top = std::max(top, std::abs(x));
                EXPECT_EQ(out[3].values[0], static_cast<float>(top)) << name(dtype);
            });
        }
    }
}

TEST(AdamW, CopiesWhatItStored) {
    const WorkingCopy copies[] = {{.to = Dtype::bf16},
                                  {.to = Dtype::f16, .exponent = -2},
                                  {.to = Dtype::e4m3, .exponent = 5},
                                  {.to = Dtype::e4m3, .scaled = true},
                                  {.to = Dtype::e5m2, .scaled = true}};
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::e4m3}) {
        for (const WorkingCopy& copy : copies) {
            // Data in 8 bits is cast under a scale alone.
            if (is_fp8(dtype) && !copy.scaled) continue;
            for (const double factor : {1.0, kNan}) {
                SCOPED_TRACE(fmt::format("{} {} {}", name(dtype), name(copy.to), copy.scaled));
                AdamW op = kOp;
                op.amax = true;
                op.copy = copy;
                op.stochastic = true;
                auto in = operands({37, 113}, factor, {.w = dtype});
                if (dtype == Dtype::f16) in[0] = under_scale(in[0], 0x1p-11f);
                if (copy.scaled) in.push_back(scalar(0x1.8p-9));
                const auto decomposed = [&](Builder& b, const Values& v) {
                    return rules_of(op).decompose(b, op, v);
                };
                const auto want = run(decomposed, in);
                for_each_kernel(op, in, [&](const std::vector<HostTensor>& out) {
                    ASSERT_EQ(out.size(), 5u);
                    for (std::size_t k = 0; k < 5; ++k) expect_identical(out[k], want[k]);
                });
            }
        }
    }
}

TEST(AdamW, FirstStepMovesByTheLearningRate) {
    const AdamW plain{.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0};
    const HostTensor zeros = vector(Dtype::f32, {0, 0, 0});
    const HostTensor schedule = vector(Dtype::f32, {0.01, 1.0 - 0.9f, 1.0 - 0.999f});
    const auto w = run(as_is(plain), {zeros, vector(Dtype::f32, {3, -1e-3, 0}), zeros, zeros,
                                      scalar(1), schedule, count(1)})[0];
    expect_each(w, {-0.01, 0.01, 0}, 2e-5);
}

TEST(AdamW, SkipsTheStepWithoutAFiniteFactor) {
    for (const Formats& f : {Formats{}, Formats{Dtype::bf16, Dtype::bf16, Dtype::e4m3, Dtype::f16},
                             Formats{Dtype::f16, Dtype::f32, Dtype::bf16, Dtype::e5m2}}) {
        for (double factor : {kNan, kInf, -kInf}) {
            auto in = operands({3, 5}, factor, f);
            in[1] = tensor(f.g, {3, 5}, std::vector<double>(15, kNan));
            const auto out = run(as_is(kOp), in);
            expect_identical(out[0], in[0]);
            expect_identical(out[1], in[2]);
            expect_identical(out[2], in[3]);
            expect_same_in_state(kOp, in);
        }
    }
}

TEST(AdamW, RefusesOtherTypes) {
    const Type w{Dtype::f32, {4}}, one{Dtype::f32, {1}}, three{Dtype::f32, {3}};
    const Type step{Dtype::i32, {1}}, codes{Dtype::e4m3, {4}};
    EXPECT_EQ(refusal(as_is(kOp), {w, {Dtype::bf16, {5}}, w, w, one, three, step}),
              "adamw: operand 1 must have shape [4], got bf16[5]");
    EXPECT_EQ(refusal(as_is(kOp), {w, w, codes, w, one, three, step}),
              "adamw: operand 2 must be plain f32, bf16 or f16, or f16, e4m3 or e5m2 with one f32 "
              "scale for the whole tensor (moments also e4m3 expanded), got e4m3[4]");
    EXPECT_EQ(refusal(as_is(kOp), {w, w, w, w, one, one, step}),
              "adamw: operand 5 must have shape [3], got f32[1]");
}

}  // namespace
}  // namespace octavo::test
