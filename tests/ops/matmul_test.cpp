#include "ops/kernel_test.h"
#include "ops/scaling_test.h"

namespace octavo::test {
namespace {

constexpr Dtype kF64 = Dtype::f64, kF32 = Dtype::f32, kBf16 = Dtype::bf16, kF16 = Dtype::f16;
constexpr Dtype kE4m3 = Dtype::e4m3, kE5m2 = Dtype::e5m2;

struct MatmulCase {
    std::int64_t m, n, k;
    bool trans_a = false, trans_b = false;
    Dtype a = kF32, b = kF32, out = kF32;
    bool accumulate = false;
    // Codes without a scale, and a factor 2^exponent.
    bool unscaled = false;
    int exponent = 0;
    bool bias = false;
};

void PrintTo(const MatmulCase& c, std::ostream* os) {
    *os << c.m << "x" << c.n << "x" << c.k << (c.trans_a ? " trans_a" : "")
        << (c.trans_b ? " trans_b" : "") << " " << name(c.a) << " " << name(c.b) << " -> "
        << name(c.out) << (c.bias ? " bias" : "") << (c.accumulate ? " accumulate" : "")
        << (c.unscaled ? " unscaled" : "") << " 2^" << c.exponent;
}

Matmul op_of(const MatmulCase& c) {
    return {.trans_a = c.trans_a,
            .trans_b = c.trans_b,
            .out = c.out,
            .bias = c.bias,
            .accumulate = c.accumulate,
            .exponent = c.exponent};
}

HostTensor operand(Dtype dtype, Shape shape, std::uint64_t seed, bool unscaled) {
    if (unscaled) return random_tensor(dtype, shape, seed);
    // One scale is a power of two, as most recipes have it, the other is not.
    if (is_fp8(dtype)) return scaled_tensor(dtype, shape, seed, seed == 1 ? 0.25f : 0.3f);
    return random_tensor(dtype, shape, seed);
}

std::vector<HostTensor> operands(const MatmulCase& c) {
    std::vector<HostTensor> in{
        operand(c.a, c.trans_a ? Shape{c.k, c.m} : Shape{c.m, c.k}, 1, c.unscaled),
        operand(c.b, c.trans_b ? Shape{c.n, c.k} : Shape{c.k, c.n}, 2, c.unscaled)};
    if (c.bias) in.push_back(random_tensor(c.out, {c.n}, 4));
    if (c.accumulate) in.push_back(random_tensor(c.out, {c.m, c.n}, 3));
    return in;
}

std::vector<double> oracle(const MatmulCase& c, const std::vector<HostTensor>& in) {
    std::vector<double> want;
    for (std::int64_t i = 0; i < c.m; ++i) {
        for (std::int64_t j = 0; j < c.n; ++j) {
            double sum = 0;
            for (std::int64_t k = 0; k < c.k; ++k) {
                sum += in[0].values[c.trans_a ? k * c.m + i : i * c.k + k] *
                       in[1].values[c.trans_b ? j * c.k + k : k * c.n + j];
            }
            const double bias = c.bias ? in[2].values[j] : 0;
            const double acc = c.accumulate ? in.back().values[i * c.n + j] : 0;
            want.push_back(std::ldexp(sum, c.exponent) + bias + acc);
        }
    }
    return want;
}

// K additions, each rounding relative to a sum of absolute values that is sqrt(K) times larger than
// the sum itself; errors of random sign grow with sqrt(K) again, but for a constant.
//
// Hopper's FP8 products are summed in the tensor cores, which keep about 14 bits of them. cuBLASLt
// may round a 16-bit product before it adds the bias or the accumulator, and the sum again: at odd
// extents it does.
double tolerance(const MatmulCase& c, std::string_view kernel = "") {
    const bool again = kernel.starts_with("cublaslt") && size_of(c.out) == 2;
    const double result = rounding(c.out) * (again ? 1 + c.accumulate + c.bias : 1);
    const bool fp8 = kernel == "biased" && on_cuda() && is_fp8(c.a) && is_fp8(c.b);
    if (fp8 || kernel == "cublaslt_fp8") return result + 0x1p-11;
    const bool doubles = c.a == kF64 || c.b == kF64 || c.out == kF64;
    return result + rounding(doubles ? kF64 : kF32) * (4.0 + static_cast<double>(c.k));
}

void expect_sums_in_f64(const MatmulCase& c) {
    const std::vector<HostTensor> in = operands(c);
    const std::vector<double> want = oracle(c, in);
    const auto names = for_each_kernel(
        op_of(c), in, [&](std::string_view kernel, const std::vector<HostTensor>& out) {
            expect_close(out[0], want, tolerance(c, kernel));
        });
    if (!on_cuda()) {
        EXPECT_EQ(names.back(), c.bias ? "biased" : "reference");
    }
}

class MatmulTest : public testing::TestWithParam<MatmulCase> {};

TEST_P(MatmulTest, EveryKernelAgreesWithSumsInF64) { expect_sums_in_f64(GetParam()); }

std::vector<MatmulCase> cases() {
    std::vector<MatmulCase> all;
    const std::int64_t extents[][3] = {{1, 1, 1},    {1, 70, 33},   {3, 130, 1100}, {5, 7, 3},
                                       {33, 17, 65}, {64, 96, 128}, {130, 63, 257}};
    for (const auto& e : extents) {
        for (bool trans_a : {false, true}) {
            for (bool trans_b : {false, true}) {
                all.push_back({e[0], e[1], e[2], trans_a, trans_b});
                all.push_back({e[0], e[1], e[2], trans_a, trans_b, kBf16, kBf16, kBf16});
                all.push_back({e[0], e[1], e[2], trans_a, trans_b, kE4m3, kE4m3, kBf16});
                all.push_back({e[0], e[1], e[2], trans_a, trans_b, kE5m2, kE4m3, kF32, true});
                all.push_back({e[0], e[1], e[2], trans_a, trans_b, kF64, kF64, kF64});
            }
        }
    }
    for (std::int64_t m : {2, 20}) {
        all.push_back({m, 40, 50, false, true, kF16, kF16, kF16});
        all.push_back({m, 40, 50, false, true, kF32, kF32, kF32, true});
        all.push_back({m, 40, 50, false, true, kBf16, kBf16, kBf16, true});
        all.push_back({m, 40, 50, true, false, kBf16, kBf16, kF32, true});
        all.push_back({m, 40, 50, false, false, kF64, kF64, kF64, true});
        all.push_back({m, 40, 50, false, true, kF32, kBf16, kBf16});
        all.push_back({m, 40, 50, false, true, kE4m3, kBf16, kF16, true});
        all.push_back({m, 40, 50, false, true, kF64, kE4m3, kF32});
    }
    for (const std::int64_t m : {2, 20, 32}) {
        for (const bool accumulate : {false, true}) {
            for (const int exponent : {0, -3, 2}) {
                const auto add = [&](bool trans_a, bool trans_b, Dtype a, Dtype b, Dtype out) {
                    all.push_back(
                        {m, 48, 64, trans_a, trans_b, a, b, out, accumulate, true, exponent});
                };
                add(false, true, kF32, kF32, kF32);
                add(true, false, kF16, kF16, kF32);
                add(false, false, kBf16, kBf16, kBf16);
                add(false, true, kE4m3, kE4m3, kF16);
                add(false, true, kE5m2, kE4m3, kF32);
                add(true, false, kE5m2, kE4m3, kF32);
            }
        }
    }
    for (bool accumulate : {false, true}) {  // nothing to sum, or nothing to write
        for (bool bias : {false, true}) {
            const auto add = [&](MatmulCase c) {
                c.accumulate = accumulate;
                c.bias = bias;
                all.push_back(c);
            };
            add({3, 4, 0, false, true, kF32, kF32, kF32});
            add({20, 4, 0, true, false, kE4m3, kE4m3, kBf16});
            add({0, 4, 5, false, false, kBf16, kBf16, kBf16});
            add({30, 0, 5, false, true, kF32, kF32, kF32});
        }
    }
    return all;
}

// Every mode that has an epilogue for a bias, and those that have none.
std::vector<MatmulCase> biased_cases() {
    std::vector<MatmulCase> all;
    const Dtype operands[][2] = {{kF64, kF64},   {kF32, kF32},   {kBf16, kBf16}, {kF16, kF16},
                                 {kE4m3, kE4m3}, {kE5m2, kE4m3}, {kBf16, kE4m3}};
    const std::int64_t extents[][3] = {{1, 70, 33}, {32, 48, 64}, {65, 63, 130}};
    for (const auto& e : extents) {
        for (const auto& [a, b] : operands) {
            for (const Dtype out : {kF64, kF32, kBf16, kF16}) {
                for (const bool accumulate : {false, true}) {
                    const auto add = [&](bool trans_a, bool trans_b, bool unscaled, int exponent) {
                        all.push_back({e[0], e[1], e[2], trans_a, trans_b, a, b, out, accumulate,
                                       unscaled, exponent, true});
                    };
                    add(false, true, false, 0);
                    add(false, false, true, -2);
                    if (is_fp8(a)) add(false, true, true, 3);
                }
            }
        }
    }
    all.push_back({40, 24, 50, true, false, kF32, kF32, kF32, false, false, 0, true});
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, MatmulTest, testing::ValuesIn(cases()));

// What the names of kernels promise: which of them a node gets.
// Half a quantum of e5m2 from the sums, which saturate.
TEST(Matmul, WritesCodes) {
    for (const std::int64_t m : {48, 20}) {
        for (const int exponent : {-3, 14}) {
            const Matmul sums{
                .trans_b = true, .kind = MatmulKind::wgrad, .out = kF32, .exponent = exponent};
            Matmul codes = sums;
            codes.out = kE5m2;
            const std::vector<HostTensor> in{random_tensor(kE5m2, {m, 64}, 1),
                                             random_tensor(kE4m3, {32, 64}, 2)};
            const auto got = run(as_is(codes), in)[0], want = run(as_is(sums), in)[0];
            EXPECT_EQ(got.type, (Type{kE5m2, {m, 32}}));
            for (std::size_t i = 0; i < want.values.size(); ++i) {
                const double most = 57344, x = std::clamp(want.values[i], -most, most);
                // The order of the sums, and half of the smallest code.
                const double around = std::ldexp(0x1p-14, exponent) + 0x1p-17;
                EXPECT_NEAR(got.values[i], x, 0x1p-3 * std::abs(x) + around) << i;
            }
        }
    }
}

TEST(Matmul, PrefersTheFastestKernel) {
    const auto names = [](const MatmulCase& c) {
        return for_each_kernel(op_of(c), operands(c), [](const auto&) {});
    };
    if (on_cuda()) {
        EXPECT_EQ(names({16, 32, 48, false, true, kE4m3, kE4m3, kBf16})[0], "cublaslt_fp8");
        EXPECT_EQ(names({16, 32, 48, false, true, kE4m3, kE4m3, kF16, false, true, -2})[0],
                  "cublaslt_fp8");
        EXPECT_EQ(names({16, 32, 40, false, true, kE4m3, kE4m3, kBf16})[0], "cublaslt");
        EXPECT_EQ(names({16, 32, 48, false, false, kE4m3, kE4m3, kBf16})[0], "cublaslt");
        EXPECT_EQ(names({16, 32, 48})[0], "cublaslt");
        EXPECT_EQ(names({16, 0, 48})[0], "empty");
        // With a bias, where cuBLASLt has an epilogue for it.
        const auto biased = [&](MatmulCase c) {
            c.bias = true;
            return names(c)[0];
        };
        EXPECT_EQ(biased({16, 32, 48, false, true, kE4m3, kE4m3, kBf16}), "cublaslt_fp8");
        EXPECT_EQ(biased({16, 32, 48, false, true, kBf16, kBf16, kBf16}), "cublaslt");
        EXPECT_EQ(biased({16, 32, 48, false, true, kF16, kF16, kF16}), "cublaslt");
        EXPECT_EQ(biased({16, 32, 48, false, true}), "cublaslt");
        const auto adds_bias = [](Dtype out, const Scaling& scaling) {
            const Type a{kE4m3, {32, 64}, scaling}, b{kE4m3, {16, 64}, scaling};
            const Matmul op{.trans_b = true, .out = out, .bias = true};
            return backend().target().adds_bias(op, a, b);
        };
        EXPECT_TRUE(adds_bias(kBf16, kPerTensor));
        EXPECT_TRUE(adds_bias(kF16, kUnscaled));
        EXPECT_FALSE(adds_bias(kF32, kPerTensor));
        EXPECT_FALSE(adds_bias(kBf16, {Granularity::micro, kF32, 32}));
        return;
    }
    EXPECT_EQ(backend().target().adds_bias, nullptr);
    EXPECT_EQ(names({1, 40, 50, false, true, kE4m3, kE4m3, kBf16})[0], "gemv");
    EXPECT_EQ(names({20, 40, 50})[0], "onednn_f32");
    EXPECT_EQ(names({20, 40, 50, true, false, kF64, kF64, kF64})[0], "reference");
    const std::string bf16 = names({20, 40, 50, false, true, kE4m3, kE4m3, kBf16})[0];
    EXPECT_TRUE(bf16 == "onednn_bf16" || bf16 == "onednn_f32") << bf16;
}

TEST(Matmul, KeepsInfinityAndNan) {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    for (std::int64_t m : {1, 20}) {
        std::vector<double> a(static_cast<std::size_t>(m) * 2, 1.0);
        a[0] = kInf;
        const HostTensor x = tensor(kF32, {m, 2}, a);
        const HostTensor w =
            tensor(kF32, {2, 2}, {1, -1, std::numeric_limits<double>::quiet_NaN(), 1});
        for_each_kernel(Matmul{}, {x, w}, [&](const std::vector<HostTensor>& out) {
            EXPECT_TRUE(std::isnan(out[0].values[0]));
            EXPECT_EQ(out[0].values[1], -kInf);
            EXPECT_EQ(out[0].values.back(), m == 1 ? -kInf : 0.0);
        });
    }
}

TEST(Matmul, FlattensLeadingDimensions) {
    Graph graph;
    Builder b(graph);
    const Value x = b.input("x", {kBf16, {2, 3, 4, 5}}), w = b.input("w", {kBf16, {6, 5}});
    EXPECT_EQ(b.type(b.linear(x, w)), (Type{kBf16, {2, 3, 4, 6}}));
    const Value dy = b.input("dy", {kBf16, {2, 3, 7}}), y = b.input("y", {kBf16, {2, 3, 5}});
    EXPECT_EQ(b.type(b.one(Matmul{.trans_a = true}, {dy, y})), (Type{kF32, {7, 5}}));
}

TEST(Matmul, AccumulatesWhereTheGradientLies) {
    const HostTensor a = random_tensor(kF32, {50, 8}, 1), b = random_tensor(kF32, {50, 6}, 2);
    const HostTensor sum = random_tensor(kF32, {8, 6}, 3);
    const auto out = run(
        [](Builder& g, const Values& in) -> Values {
            // The doubled sum dies with the product, which may therefore be written over it.
            return {g.one(Matmul{.trans_a = true, .accumulate = true},
                          {in[0], in[1], g.add(in[2], in[2])})};
        },
        {a, b, sum});
    MatmulCase c{8, 6, 50, true, false, kF32, kF32, kF32, true};
    HostTensor doubled = sum;
    for (double& v : doubled.values) v *= 2;
    expect_close(out[0], oracle(c, {a, b, doubled}), tolerance(c));
}

TEST(Matmul, AddsABiasInEveryMode) {
    for (const MatmulCase& c : biased_cases()) {
        SCOPED_TRACE(testing::PrintToString(c));
        expect_sums_in_f64(c);
    }
}

TEST(Matmul, ABiasIsAddedBeforeRounding) {
    // 256 + 0.75 + 0.75: rounded to bf16 in between, it would stay 256.
    const HostTensor x = tensor(kBf16, {2, 2}, {16, 1, 0, 1}),
                     w = tensor(kBf16, {1, 2}, {16, 0.75});
    const HostTensor bias = tensor(kBf16, {1}, {0.75});
    for_each_kernel(Matmul{.trans_b = true, .out = kBf16, .bias = true}, {x, w, bias},
                    [&](const std::vector<HostTensor>& out) {
                        EXPECT_EQ(out[0].values, (std::vector<double>{258, 1.5}));
                    });
}

// A row is as large as its bias, and no place for it to be read from.
TEST(Matmul, ABiasIsNotWrittenOver) {
    const HostTensor x = random_tensor(kF32, {1, 5}, 1), w = random_tensor(kF32, {40, 5}, 2);
    const HostTensor bias = random_tensor(kF32, {40}, 3), acc = random_tensor(kF32, {1, 40}, 4);
    const MatmulCase c{.m = 1, .n = 40, .k = 5, .trans_b = true, .accumulate = true, .bias = true};
    HostTensor twice = bias;
    for (double& v : twice.values) v *= 2;
    for (const bool accumulate : {false, true}) {
        MatmulCase each = c;
        each.accumulate = accumulate;
        const auto out = run(
            [&](Builder& g, const Values& in) -> Values {
                Values operands{in[0], in[1], g.add(in[2], in[2])};
                if (accumulate) operands.push_back(in[3]);
                return {g.one(op_of(each), operands)};
            },
            {x, w, bias, acc});
        const std::vector<HostTensor> in{x, w, twice, acc};
        expect_close(out[0], oracle(each, in), tolerance(each));
    }
}

TEST(Matmul, TheDefinitionWithABias) {
    for (const bool accumulate : {false, true}) {
        const MatmulCase c{.m = 6, .n = 9, .k = 7, .accumulate = accumulate, .bias = true};
        const std::vector<HostTensor> in = operands(c);
        expect_close(run(decomposed(op_of(c)), in)[0], oracle(c, in), tolerance(c));
    }
}

TEST(Matmul, Gradient) {
    for (bool trans_b : {false, true}) {
        check_gradient(
            [&](Builder& b, const Values& in) -> Values {
                return {b.one(Matmul{.trans_b = trans_b, .out = kF64}, in)};
            },
            {random_tensor(kF64, {2, 3, 4}, 1),
             random_tensor(kF64, trans_b ? Shape{5, 4} : Shape{4, 5}, 2)},
            {0, 1});
    }
}

TEST(Matmul, GradientsKnowWhatTheyAreFor) {
    Graph graph;
    Builder b(graph);
    const Value x = b.input("x", {kBf16, {2, 3, 4}}), w = b.input("w", {kBf16, {5, 4}});
    const Value y = b.linear(x, w);
    const Value dy = b.input("dy", b.type(y));
    const Op& op = graph.node(graph.producer(y)).op;
    const Values d = rules_of(op).vjp(b, op, {x, w}, {y}, {dy});
    EXPECT_EQ(b.type(d[0]), b.type(x));
    EXPECT_EQ(b.type(d[1]), (Type{kF32, {5, 4}}));
    EXPECT_EQ(std::get<Matmul>(graph.node(graph.producer(d[0])).op).kind, MatmulKind::dgrad);
    EXPECT_EQ(std::get<Matmul>(graph.node(graph.producer(d[1])).op).kind, MatmulKind::wgrad);
}

std::string error_of(const Matmul& op, const Types& in) {
    try {
        rules_of(op).type(op, Operands("matmul", in));
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

TEST(Matmul, Refuses) {
    EXPECT_EQ(error_of({.trans_b = true}, {{kF32, {3, 4}}, {kF32, {6, 5}}}),
              "matmul: K of both operands must agree, got 4 and 5 from f32[3, 4] and f32[6, 5] "
              "transposed");
    EXPECT_EQ(error_of({}, {{kF32, {4}}, {kF32, {4, 5}}}),
              "matmul: operand 0 must have at least 2 dimensions, got f32[4]");
    EXPECT_EQ(error_of({}, {{kF32, {3, 4}}, {kF16, {4, 5}, kPerTensor}}),
              "matmul: operand 1 must be plain floats, or e4m3 or e5m2 under f32 scales, got "
              "f16[4, 5] x tensor");
    EXPECT_EQ(error_of({.exponent = 1}, {{kE4m3, {3, 4}, kPerTensor}, {kE4m3, {4, 5}, kPerTensor}}),
              "matmul: an exponent goes with unscaled operands, got e4m3[3, 4] x tensor");
    EXPECT_NE(error_of({.out = kE4m3}, {{kF32, {3, 4}}, {kF32, {4, 5}}})
                  .find("expected a result of f64, f32, bf16 or f16, got e4m3"),
              std::string::npos);
    EXPECT_NE(error_of({.out = kE5m2}, {{kE4m3, {3, 4}, kPerTensor}, {kE4m3, {4, 5}, kPerTensor}})
                  .find("expected a result of f64, f32, bf16 or f16, got e5m2"),
              std::string::npos);
    EXPECT_EQ(error_of({.accumulate = true}, {{kF32, {3, 4}}, {kF32, {4, 5}}}),
              "matmul takes 3 operands, got 2");
    EXPECT_EQ(error_of({.accumulate = true}, {{kF32, {3, 4}}, {kF32, {4, 5}}, {kBf16, {3, 5}}}),
              "matmul: operand 2 must be unscaled f32, got bf16[3, 5]");
    EXPECT_EQ(error_of({.bias = true}, {{kF32, {3, 4}}, {kF32, {4, 5}}, {kBf16, {5}}}),
              "matmul: operand 2 must be unscaled f32, got bf16[5]");
    EXPECT_EQ(error_of({.bias = true, .accumulate = true},
                       {{kF32, {3, 4}}, {kF32, {4, 5}}, {kF32, {3, 5}}, {kF32, {5}}}),
              "matmul: operand 2 must have shape [5], got f32[3, 5]");
}

TEST(Matmul, HasNoGradientForScaledOperands) {
    Graph graph;
    Builder b(graph);
    const Value x = b.input("x", {kE4m3, {3, 4}, kPerTensor}), w = b.input("w", {kF32, {4, 5}});
    const Op op = Matmul{};
    const Value y = b.one(op, {x, w});
    try {
        rules_of(op).vjp(b, op, {x, w}, {y}, {y});
        FAIL() << "expected an error";
    } catch (const Error& e) {
        EXPECT_EQ(e.message(), "matmul: no gradient for the scaled operand e4m3[3, 4] x tensor");
        EXPECT_EQ(e.hint(), "Quantise after differentiating, as recipes do.");
    }
}

}  // namespace
}  // namespace octavo::test
