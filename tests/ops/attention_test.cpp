#include "ops/attention_oracle.h"

namespace octavo::test {
namespace {

class AttentionTest : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionTest, EveryKernelAgreesWithSumsInF64) {
    const AttentionCase& c = GetParam();
    const std::vector<HostTensor> in = attention_operands(c);
    const AttentionOracle want = attention_oracle(c, in);
    const auto names = for_each_kernel(c.op(), in, [&](const std::vector<HostTensor>& out) {
        expect_close(out[0], want.o, tolerance(c) + rounding(c.dtype));
        expect_close(out[1], want.lse, tolerance(c), tolerance(c));
    });
    EXPECT_EQ(names.back(), on_cuda() ? "rows" : "reference");
    if (on_cuda()) return;
    EXPECT_EQ(names.size(), c.dtype != Dtype::f64 && c.t >= 8 && c.b > 0 ? 2u : 1u);
}

std::vector<AttentionCase> cases() {
    std::vector<AttentionCase> all;
    for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::f64}) {
        for (std::int64_t t : {1, 7, 65, 130}) {
            all.push_back({.b = 2, .t = t, .h = 2, .g = 2, .d = 16, .dtype = dtype});
            all.push_back({.b = 1, .t = t, .h = 6, .g = 2, .d = 64, .dtype = dtype});
            all.push_back({.b = 1, .t = t, .h = 3, .g = 1, .d = 80, .dtype = dtype});
        }
        all.push_back({.b = 0, .t = 9, .h = 2, .g = 1, .d = 8, .dtype = dtype});
        all.push_back({.b = 1, .t = 12, .h = 2, .g = 1, .d = 1, .dtype = dtype});
        all.push_back({.b = 1, .t = 12, .h = 2, .g = 1, .d = 256, .dtype = dtype});
        // Enough queries to give each a warp of its own.
        all.push_back({.b = 1, .t = 9, .h = 480, .g = 120, .d = 16, .dtype = dtype});
        // As cuDNN takes it, too.
        all.push_back({.b = 2, .t = 256, .h = 4, .g = 2, .d = 64, .dtype = dtype, .document = 100});
        for (std::int64_t document : {1, 5, 64, 70, 200}) {
            all.push_back(
                {.b = 3, .t = 135, .h = 4, .g = 2, .d = 16, .dtype = dtype, .document = document});
        }
        // A cache of 70 with 3 queries (decoding) and with 66 (a prompt).
        all.push_back({.b = 3, .t = 3, .h = 4, .g = 2, .d = 16, .dtype = dtype, .cache = 70});
        all.push_back({.b = 3, .t = 66, .h = 4, .g = 2, .d = 16, .dtype = dtype, .cache = 70});
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTest, testing::ValuesIn(cases()));

TEST(Attention, UnusedSlotsAreZero) {
    for (std::int64_t t : {2, 10}) {
        const Shape q{1, t, 2, 4}, k{1, 5, 1, 4};
        std::vector<double> positions(static_cast<std::size_t>(t), -1);
        positions[1] = 3;
        const std::vector<HostTensor> in{
            random_tensor(Dtype::bf16, q, 1), random_tensor(Dtype::bf16, k, 2),
            random_tensor(Dtype::bf16, k, 3), tensor(Dtype::i32, {1, t}, positions)};
        for_each_kernel(Attention{}, in, [&](const std::vector<HostTensor>& out) {
            for (std::size_t i = 0; i < 8; ++i) {
                EXPECT_EQ(out[0].values[i], 0.0);
                EXPECT_NE(out[0].values[8 + i], 0.0);
            }
            EXPECT_EQ(out[1].values[0], -std::numeric_limits<double>::infinity());
            EXPECT_TRUE(std::isfinite(out[1].values[1]));
        });
    }
}

// Scores far beyond what e^x holds.
TEST(Attention, LargeScoresDoNotOverflow) {
    AttentionCase c{.b = 1, .t = 20, .h = 1, .g = 1, .d = 16, .sigma = 30};
    const std::vector<HostTensor> in = attention_operands(c);
    const AttentionOracle want = attention_oracle(c, in);
    for_each_kernel(Attention{c.scale()}, in, [&](const std::vector<HostTensor>& out) {
        expect_close(out[0], want.o, 1e-4);
        expect_close(out[1], want.lse, 1e-6);
    });
}

TEST(Attention, OfAGraphMayOverwriteItsQuery) {
    AttentionCase c{.b = 1, .t = 70, .h = 2, .g = 1, .d = 16};
    std::vector<HostTensor> in = attention_operands(c);
    const auto out = run(
        [&](Builder& b, const Values& v) {
            return b.emit(Attention{c.scale()}, {b.add(v[0], v[0]), v[1], v[2]});
        },
        in);
    for (double& x : in[0].values) x *= 2;
    expect_close(out[0], attention_oracle(c, in).o, tolerance(c) + rounding(c.dtype));
}

std::string error_of(const Types& in, const Attention& attention = {}) {
    try {
        const Op op = attention;
        rules_of(op).type(op, Operands("attention", in));
    } catch (const Error& e) {
        return e.message();
    }
    return "no error";
}

TEST(Attention, Refuses) {
    const Type q{Dtype::f32, {2, 5, 6, 8}}, k{Dtype::f32, {2, 5, 4, 8}};
    EXPECT_EQ(error_of({q, k, k}),
              "attention: the number of query heads must be a multiple of that of key heads, got 6 "
              "and 4");
    const Type other{Dtype::f32, {2, 5, 3, 16}};
    EXPECT_EQ(error_of({q, other, other}),
              "attention: q and k must agree in batch and head size, got f32[2, 5, 6, 8] and "
              "f32[2, 5, 3, 16]");
    const Type cache{Dtype::f32, {2, 9, 3, 8}};
    EXPECT_EQ(error_of({q, cache, cache}),
              "attention: without positions there are as many keys as queries, got f32[2, 5, 6, 8] "
              "and f32[2, 9, 3, 8]");
    EXPECT_EQ(error_of({q, cache, cache, {Dtype::i32, {2, 4}}}),
              "attention: operand 3 must have shape [2, 5], got i32[2, 4]");
    EXPECT_EQ(error_of({q, cache, cache, {Dtype::i32, {2, 5}}}), "no error");
    const Attention documents{.documents = true};
    EXPECT_EQ(error_of({q, cache, cache, {Dtype::i32, {2, 5}}}, documents),
              "attention: without positions there are as many keys as queries, got f32[2, 5, 6, 8] "
              "and f32[2, 9, 3, 8]");
    EXPECT_EQ(error_of({q, cache, cache}, documents), "attention takes 4 operands, got 3");
}

TEST(Attention, HasNoGradientWithPositionsOrThroughLse) {
    Graph graph;
    Builder b(graph);
    const Value q = b.input("q", {Dtype::f64, {1, 2, 2, 4}});
    const Value k = b.input("k", {Dtype::f64, {1, 2, 1, 4}});
    const Value positions = b.input("positions", {Dtype::i32, {1, 2}});
    const auto gradient = [&](const Values& in, int result) {
        const Value y = b.emit(Attention{}, in)[static_cast<std::size_t>(result)];
        const Value sum = b.one(SumRows{}, {b.reshape(y, {b.shape(y).elements(), 1})});
        try {
            differentiate(b, sum, {q});
        } catch (const Error& e) {
            return e.message();
        }
        return std::string("no error");
    };
    EXPECT_EQ(gradient({q, k, k, positions}, 0), "attention: no gradient with positions");
    EXPECT_EQ(gradient({q, k, k}, 1), "attention: gradients flow through o only, not through lse");
    EXPECT_EQ(gradient({q, k, k}, 0), "no error");
}

}  // namespace
}  // namespace octavo::test
