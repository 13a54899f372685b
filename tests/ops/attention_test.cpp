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
    if (on_cuda()) {
        EXPECT_EQ(names.front() == "cudnn", cudnn_takes(c))
            << c.t << " tokens, " << c.h << " heads of " << c.d << ", documents of " << c.document;
        return;
    }
    EXPECT_EQ(names.size(), c.dtype != Dtype::f64 && c.b > 0 ? 2u : 1u);
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
        // As cuDNN takes it, too.
        all.push_back({.b = 2, .t = 256, .h = 4, .g = 2, .d = 64, .dtype = dtype, .document = 100});
        for (std::int64_t document : {1, 5, 64, 70, 200}) {
            all.push_back(
                {.b = 3, .t = 135, .h = 4, .g = 2, .d = 16, .dtype = dtype, .document = document});
        }
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTest, testing::ValuesIn(cases()));

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

std::string error_of(const Types& in) {
    try {
        const Op op = Attention{};
        rules_of(op).type(op, Operands("attention", in));
    } catch (const Error& e) {
        return e.message();
    }
    return "no error";
}

TEST(Attention, Refuses) {
    const Type q{Dtype::f32, {2, 5, 6, 8}}, k{Dtype::f32, {2, 5, 3, 8}};
    for (const Shape& other :
         {Shape{2, 5, 4, 8}, Shape{2, 5, 3, 16}, Shape{2, 9, 3, 8}, Shape{1, 5, 3, 8}}) {
        const Type wrong{Dtype::f32, other};
        EXPECT_EQ(error_of({q, wrong, wrong}),
                  "attention: q and k may differ only in the number of heads, a multiple, got "
                  "f32[2, 5, 6, 8] and " +
                      to_string(wrong));
    }
    EXPECT_EQ(error_of({q, k, k, {Dtype::i32, {2, 4}}}),
              "attention: operand 3 must have shape [2, 5], got i32[2, 4]");
    EXPECT_EQ(error_of({q, k, k, {Dtype::i32, {2, 5}}}), "no error");
    EXPECT_EQ(error_of({q, k, k}), "no error");
}

TEST(Attention, HasNoGradientThroughLse) {
    Graph graph;
    Builder b(graph);
    const Value q = b.input("q", {Dtype::f64, {1, 2, 2, 4}});
    const Value k = b.input("k", {Dtype::f64, {1, 2, 1, 4}});
    const auto gradient = [&](std::size_t result) {
        const Value y = b.emit(Attention{}, {q, k, k})[result];
        const Value sum = b.one(SumRows{}, {b.reshape(y, {b.shape(y).elements(), 1})});
        try {
            differentiate(b, sum, {q});
        } catch (const Error& e) {
            return e.message();
        }
        return std::string("no error");
    };
    EXPECT_EQ(gradient(1), "attention: gradients flow through o only, not through lse");
    EXPECT_EQ(gradient(0), "no error");
}

}  // namespace
}  // namespace octavo::test
