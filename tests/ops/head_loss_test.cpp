#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Case {
    Dtype dtype;
    std::int64_t m, c, v, chunk;
    bool trans_b = true, accumulate = false;
};

std::ostream& operator<<(std::ostream& os, const Case& c) {
    return os << name(c.dtype) << " M " << c.m << " C " << c.c << " V " << c.v << " chunk "
              << c.chunk << (c.trans_b ? " trans_b" : "") << (c.accumulate ? " accumulate" : "");
}

HeadLoss op_of(const Case& c) {
    return {.trans_b = c.trans_b, .accumulate = c.accumulate, .chunk = c.chunk};
}

std::vector<HostTensor> operands(const Case& c) {
    const Dtype sum = accumulator(c.dtype);
    const Shape w = c.trans_b ? Shape{c.v, c.c} : Shape{c.c, c.v};
    HostTensor targets = random_ids({c.m}, c.v, 8);
    for (std::size_t i = 3; i < targets.values.size(); i += 5) targets.values[i] = -1;
    std::vector<HostTensor> in = {random_tensor(c.dtype, {c.m, c.c}, 1),
                                  random_tensor(c.dtype, w, 2, 0.5),
                                  tensor(Dtype::i32, {c.m}, targets.values),
                                  tensor(sum, {1}, {0.125}), tensor(sum, {1}, {2})};
    if (c.accumulate) in.push_back(random_tensor(sum, w, 3));
    return in;
}

// In FP64 and without any rounding on the way.
std::vector<std::vector<double>> oracle(const Case& c, const std::vector<HostTensor>& in) {
    const auto m = static_cast<std::size_t>(c.m), k = static_cast<std::size_t>(c.c),
               v = static_cast<std::size_t>(c.v);
    const double weight = in[3].values[0], dloss = in[4].values[0];
    const auto w_at = [&](std::size_t j, std::size_t i) {
        return c.trans_b ? j * k + i : i * v + j;
    };
    double loss = 0;
    std::vector<double> dx(m * k),
        dw = c.accumulate ? in[5].values : std::vector<double>(in[1].values.size());
    std::vector<double> logits(v);
    for (std::size_t row = 0; row < m; ++row) {
        if (in[2].values[row] < 0) continue;
        const auto target = static_cast<std::size_t>(in[2].values[row]);
        const double* x = in[0].values.data() + row * k;
        double sum = 0;
        for (std::size_t j = 0; j < v; ++j) {
            logits[j] = 0;
            for (std::size_t i = 0; i < k; ++i) logits[j] += x[i] * in[1].values[w_at(j, i)];
            sum += std::exp(logits[j]);
        }
        loss += weight * (std::log(sum) - logits[target]);
        for (std::size_t j = 0; j < v; ++j) {
            const double d = dloss * weight * (std::exp(logits[j]) / sum - (j == target ? 1 : 0));
            for (std::size_t i = 0; i < k; ++i) {
                dx[row * k + i] += d * in[1].values[w_at(j, i)];
                dw[w_at(j, i)] += d * x[i];
            }
        }
    }
    return {{loss}, dx, dw};
}

class HeadLossTest : public testing::TestWithParam<Case> {};

// The chunked kernel against its definition: only the order of dw's sum over rows differs.
TEST_P(HeadLossTest, AgreesWithItsDefinition) {
    const Case& c = GetParam();
    const auto in = operands(c);
    const auto fused = run(as_is(op_of(c)), in), plain = run(decomposed(op_of(c)), in);
    const double tolerance = c.dtype == Dtype::f64 ? 1e-14 : c.dtype == Dtype::f32 ? 3e-6 : 1e-2;
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(fused[i].type, plain[i].type);
        expect_close(fused[i], plain[i].values, tolerance);
    }
}

TEST_P(HeadLossTest, AgreesWithTheFormula) {
    const Case& c = GetParam();
    const auto in = operands(c);
    const auto got = run(as_is(op_of(c)), in);
    const auto want = oracle(c, in);
    // bf16 logits carry half an ulp of a value around 4, and all three results inherit it.
    const double tolerance = c.dtype == Dtype::f64 ? 1e-13 : c.dtype == Dtype::f32 ? 1e-5 : 3e-2;
    for (std::size_t i = 0; i < 3; ++i) expect_close(got[i], want[i], tolerance, 1e-15);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, HeadLossTest,
    testing::Values(
        Case{Dtype::f64, 7, 5, 11, 3}, Case{Dtype::f64, 7, 5, 11, 7, false, true},
        Case{Dtype::f32, 1, 1, 1, 1}, Case{Dtype::f32, 33, 24, 65, 8},
        Case{Dtype::f32, 33, 24, 65, 8, true, true}, Case{Dtype::f32, 33, 24, 65, 8, false},
        Case{Dtype::f32, 32, 16, 40, 100}, Case{Dtype::f32, 64, 32, 257, 16, false, true},
        Case{Dtype::f32, 9, 16, 40, 1, true, true}, Case{Dtype::bf16, 40, 32, 96, 16},
        Case{Dtype::bf16, 41, 33, 95, 16, true, true}, Case{Dtype::bf16, 41, 33, 95, 16, false},
        // Rows longer than what a block of a GPU keeps on chip.
        Case{Dtype::bf16, 5, 8, 60001, 2}, Case{Dtype::f32, 3, 8, 40000, 3},
        // GPT-2's vocabulary is 50257, and so are its remainders.
        Case{Dtype::bf16, 5, 16, 50257, 2}, Case{Dtype::f16, 19, 24, 273, 8, true, true},
        Case{Dtype::f16, 19, 24, 273, 8, false, true}));

TEST(HeadLoss, NoRows) {
    const Case c{.dtype = Dtype::bf16, .m = 0, .c = 3, .v = 4, .chunk = 8};
    auto out = run(as_is(op_of(c)), operands(c));
    EXPECT_EQ(out[0].values[0], 0);
    EXPECT_EQ(out[2].values, std::vector<double>(12, 0.0));
    Case adding = c;
    adding.accumulate = true;
    out = run(as_is(op_of(adding)), operands(adding));
    EXPECT_EQ(out[2].values, operands(adding)[5].values);
}

// dx takes the place of x chunk by chunk, dw that of acc.
TEST(HeadLoss, InPlace) {
    for (bool trans_b : {true, false}) {
        const Case c{Dtype::f32, 22, 8, 30, 5, trans_b, true};
        expect_same_in_place(op_of(c), operands(c));
    }
}

// Both gradients are those of the first result.
TEST(HeadLoss, GradientsByFiniteDifferences) {
    const Case c{.dtype = Dtype::f64, .m = 4, .c = 3, .v = 5, .chunk = 3};
    auto in = operands(c);
    const auto out = run(as_is(op_of(c)), in);
    const double dloss = in[4].values[0], step = 1e-5;
    for (std::size_t i : {0, 1}) {
        for (std::size_t e = 0; e < in[i].values.size(); ++e) {
            const auto loss_at = [&](double x) {
                auto moved = in;
                moved[i].values[e] = x;
                moved[i] = tensor(Dtype::f64, in[i].type.shape, moved[i].values);
                return run(as_is(op_of(c)), moved)[0].values[0];
            };
            const double at = in[i].values[e];
            const double slope = (loss_at(at + step) - loss_at(at - step)) / (2 * step);
            EXPECT_NEAR(out[i + 1].values[e], dloss * slope, 1e-8) << "operand " << i << " " << e;
        }
    }
}

// In one chunk no sum is cut, and the products are the same ones: bit for bit.
TEST(HeadLoss, OneChunkIsTheDefinition) {
    const Case c{.dtype = Dtype::f32, .m = 16, .c = 8, .v = 50, .chunk = 16};
    const auto fused = run(as_is(op_of(c)), operands(c));
    const auto plain = run(decomposed(op_of(c)), operands(c));
    for (std::size_t i = 0; i < 3; ++i) expect_identical(fused[i], plain[i]);
}

// A head whose logits are the same for all of the vocabulary: every sum is one of small multiples
// of a power of two, exact in any order. So chunks, and the gaps that a GPU leaves between rows of
// logits, must not show in a single bit but the sign of a zero.
TEST(HeadLoss, OddVocabulariesExactly) {
    for (const std::int64_t v : {1, 15, 17, 63, 64, 65, 257, 273, 1041, 4113}) {
        for (const Dtype dtype : {Dtype::bf16, Dtype::f16}) {
            if (dtype == Dtype::f16 && v > 300) continue;  // its gradients have too many bits
            for (const bool trans_b : {true, false}) {
                for (const bool accumulate : {false, true}) {
                    for (const std::int64_t chunk : {5, 32}) {
                        const Case c{dtype, 13, 8, v, chunk, trans_b, accumulate};
                        SCOPED_TRACE(testing::PrintToString(c));
                        auto in = operands(c);
                        std::vector<double> x, w, acc;
                        for (std::int64_t i = 0; i < c.m * c.c; ++i) {
                            x.push_back(static_cast<double>(i * 5 % 7 - 3));
                        }
                        for (std::int64_t i = 0; i < v * c.c; ++i) {
                            w.push_back(static_cast<double>((trans_b ? i % c.c : i / v) % 3 - 1));
                            acc.push_back((static_cast<double>(i % 5) - 2) / 64);
                        }
                        in[0] = tensor(dtype, {c.m, c.c}, x);
                        in[1] = tensor(dtype, in[1].type.shape, w);
                        if (accumulate) in[5] = tensor(Dtype::f32, in[1].type.shape, acc);
                        const auto fused = run(as_is(op_of(c)), in);
                        const auto plain = run(decomposed(op_of(c)), in);
                        for (std::size_t i = 0; i < 3; ++i) {
                            SCOPED_TRACE(i);
                            EXPECT_EQ(fused[i].values, plain[i].values);
                        }
                    }
                }
            }
        }
    }
}

// FP8 operands; dlogits are quantised under the scale of a filled window, or of their own amax.
struct Fp8Case {
    std::int64_t m, c, v, chunk;
    bool accumulate = false, just_in_time = false;
};

constexpr ScaleRule kRule{.to = Dtype::e5m2};

HeadLoss op_of(const Fp8Case& c) {
    return {.accumulate = c.accumulate, .chunk = c.chunk, .quantise = kRule};
}

HostTensor codes(const Shape& shape, std::uint64_t seed, float scale) {
    HostTensor t = random_tensor(Dtype::e4m3, shape, seed, 3);
    t.type.scaling = kPerTensor;
    t.scales = {scale};
    for (double& v : t.values) v *= scale;
    return t;
}

std::vector<HostTensor> operands(const Fp8Case& c) {
    HostTensor targets = random_ids({c.m}, c.v, 8);
    for (std::size_t i = 3; i < targets.values.size(); i += 5) targets.values[i] = -1;
    std::vector<HostTensor> in = {codes({c.m, c.c}, 1, 0.25f),
                                  codes({c.v, c.c}, 2, 0.125f),
                                  tensor(Dtype::i32, {c.m}, targets.values),
                                  scalar(0.125),
                                  scalar(2),
                                  vector(Dtype::f32, {0, 0.25, 0.5, 0.125}),
                                  count(c.just_in_time ? 3 : 4),
                                  scalar(0x1p-17)};
    if (c.accumulate) in.push_back(random_tensor(Dtype::f32, {c.v, c.c}, 3));
    return in;
}

TEST(HeadLossFp8, AgreesWithItsDefinition) {
    for (const Fp8Case& c :
         {Fp8Case{64, 32, 96, 16}, Fp8Case{80, 32, 96, 32, true}, Fp8Case{41, 33, 95, 16, true},
          Fp8Case{48, 16, 1024, 48, false, true}, Fp8Case{48, 16, 48, 64, true, true}}) {
        SCOPED_TRACE(fmt::format("M {} C {} V {} chunk {}", c.m, c.c, c.v, c.chunk));
        const auto in = operands(c);
        const auto fused = run(as_is(op_of(c)), in), plain = run(decomposed(op_of(c)), in);
        ASSERT_EQ(fused.size(), 5u);
        for (std::size_t i = 0; i < 5; ++i) {
            SCOPED_TRACE(i);
            EXPECT_EQ(fused[i].type, plain[i].type);
            // Codes are the same. Sums may be added in another order, on a GPU with about 14 bits
            // for those of FP8 products.
            const double sums = on_cuda() ? 1e-3 : 1e-5;
            expect_close(fused[i], plain[i].values, i == 1 ? 1e-2 : sums);
        }
        expect_identical(fused[3], plain[3]);
        expect_identical(fused[4], plain[4]);
    }
}

TEST(HeadLossFp8, GradientsAreThoseOfTheRealHead) {
    const Fp8Case c{128, 32, 64, 48};
    const auto in = operands(c);
    const auto got = run(as_is(op_of(c)), in);
    std::vector<HostTensor> real(in.begin(), in.begin() + 5);
    for (const std::size_t i : {0, 1}) {
        real[i] = tensor(Dtype::f32, in[i].type.shape, in[i].values);
    }
    const auto want = oracle({Dtype::f32, c.m, c.c, c.v, c.chunk}, real);
    expect_close(got[0], want[0], 1e-2);
    // e5m2 keeps two bits of each dlogit; products average their errors.
    expect_close(got[1], want[1], 0.08);
    expect_close(got[2], want[2], 0.08);
}

TEST(HeadLossFp8, NoRows) {
    const Fp8Case c{.m = 0, .c = 16, .v = 32, .chunk = 8, .accumulate = true};
    const auto in = operands(c), out = run(as_is(op_of(c)), in);
    EXPECT_EQ(out[0].values[0], 0);
    EXPECT_EQ(out[2].values, in[8].values);
    expect_identical(out[3], in[5]);
}

TEST(HeadLossFp8, InPlace) {
    const Fp8Case c{48, 16, 64, 16, true};
    expect_same_in_place(op_of(c), operands(c));
}

TEST(HeadLoss, RefusesWrongOperands) {
    const Type one{Dtype::f32, {1}}, x{Dtype::bf16, {4, 8}}, targets{Dtype::i32, {4}};
    const HeadLoss op{.chunk = 2};
    EXPECT_EQ(refusal(as_is(op), {x, {Dtype::bf16, {8, 9}}, targets, one, one}),
              "head_loss: dimension 1 of the weight must be x's last, 8, got bf16[8, 9]");
    EXPECT_EQ(refusal(as_is(op), {x, {Dtype::f32, {9, 8}}, targets, one, one}),
              "head_loss: operand 1 must be unscaled bf16, got f32[9, 8]");
    const Type count{Dtype::i32, {1}}, codes{Dtype::e4m3, {9, 8}, kPerTensor};
    EXPECT_EQ(refusal(as_is(HeadLoss{.chunk = 2, .quantise = kRule}),
                      {x, codes, targets, one, one, {Dtype::f32, {4}}, count, one}),
              "head_loss: operand 0 must have one f32 scale for the whole tensor, got bf16[4, 8]");
    EXPECT_EQ(refusal(as_is(HeadLoss{}), {x, {Dtype::bf16, {9, 8}}, targets, one, one}),
              "head_loss: expected a chunk of at least 1 row, got 0");
    EXPECT_EQ(refusal(as_is(HeadLoss{.accumulate = true, .chunk = 2}),
                      {x, {Dtype::bf16, {9, 8}}, targets, one, one, {Dtype::bf16, {9, 8}}}),
              "head_loss: operand 5 must be unscaled f32, got bf16[9, 8]");
}

}  // namespace
}  // namespace octavo::test
