#include "ops/attention_oracle.h"

namespace octavo::test {
namespace {

struct Gradients {
    std::vector<double> dq, dk, dv;
};

Gradients oracle(const AttentionCase& c, const std::vector<HostTensor>& in,
                 const AttentionOracle& forward, const std::vector<double>& dout) {
    Gradients r{std::vector<double>(in[0].values.size()), std::vector<double>(in[1].values.size()),
                std::vector<double>(in[1].values.size())};
    for (std::int64_t b = 0; b < c.b; ++b) {
        for (std::int64_t h = 0; h < c.h; ++h) {
            for (std::int64_t t = 0; t < c.t; ++t) {
                const std::int64_t q = ((b * c.t + t) * c.h + h) * c.d;
                const double* p = forward.p.data() + ((b * c.h + h) * c.t + t) * c.t;
                double delta = 0;
                for (std::int64_t i = 0; i < c.d; ++i) delta += dout[q + i] * forward.o[q + i];
                for (std::int64_t s = c.start(b, t); s <= t; ++s) {
                    const std::int64_t k = ((b * c.t + s) * c.g + h / (c.h / c.g)) * c.d;
                    double dp = 0;
                    for (std::int64_t i = 0; i < c.d; ++i) dp += dout[q + i] * in[2].values[k + i];
                    const double ds = p[s] * (dp - delta) * c.scale();
                    for (std::int64_t i = 0; i < c.d; ++i) {
                        r.dq[q + i] += ds * in[1].values[k + i];
                        r.dk[k + i] += ds * in[0].values[q + i];
                        r.dv[k + i] += p[s] * dout[q + i];
                    }
                }
            }
        }
    }
    return r;
}

class AttentionGradTest : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionGradTest, EveryKernelAgreesWithSumsInF64) {
    const AttentionCase& c = GetParam();
    std::vector<HostTensor> in = attention_operands(c);
    const AttentionOracle forward = attention_oracle(c, in);
    const HostTensor dout = random_tensor(c.dtype, in[0].type.shape, 4);
    const Gradients want = oracle(c, in, forward, dout.values);
    const std::vector<HostTensor> starts(in.begin() + 3, in.end());
    in.resize(3);
    in.push_back(tensor(c.dtype, in[0].type.shape, forward.o));
    in.push_back(tensor(accumulator(c.dtype), {c.b, c.h, c.t}, forward.lse));
    in.push_back(dout);
    in.insert(in.end(), starts.begin(), starts.end());
    // o is rounded to its dtype before it enters delta.
    const double relative = 2 * tolerance(c) + 4 * rounding(c.dtype);
    const auto names =
        for_each_kernel(AttentionGrad{c.scale()}, in, [&](const std::vector<HostTensor>& out) {
            expect_close(out[0], want.dq, relative, relative);
            expect_close(out[1], want.dk, relative, relative);
            expect_close(out[2], want.dv, relative, relative);
        });
    EXPECT_EQ(names.back(), on_cuda() ? "rows" : "reference");
    if (on_cuda()) {
        EXPECT_EQ(names.front() == "cudnn", cudnn_takes(c) && c.t > 1)
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
        all.push_back({.b = 1, .t = 12, .h = 2, .g = 1, .d = 256, .dtype = dtype});
        // As cuDNN takes it, too.
        all.push_back({.b = 2, .t = 256, .h = 4, .g = 2, .d = 64, .dtype = dtype, .document = 100});
        for (std::int64_t document : {1, 5, 64, 70, 200}) {
            all.push_back(
                {.b = 3, .t = 135, .h = 4, .g = 2, .d = 16, .dtype = dtype, .document = document});
        }
        all.push_back({.b = 0, .t = 9, .h = 2, .g = 1, .d = 8, .dtype = dtype});
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionGradTest, testing::ValuesIn(cases()));

TEST(AttentionGrad, FiniteDifferences) {
    check_gradient(
        [](Builder& b, const Values& in) -> Values { return {b.emit(Attention{0.5f}, in)[0]}; },
        {random_tensor(Dtype::f64, {1, 5, 4, 2}, 1), random_tensor(Dtype::f64, {1, 5, 2, 2}, 2),
         random_tensor(Dtype::f64, {1, 5, 2, 2}, 3)},
        {0, 1, 2});
}

TEST(AttentionGrad, FiniteDifferencesOfDocuments) {
    const HostTensor starts = tensor(Dtype::i32, {1, 5}, {0, 0, 2, 2, 4});
    check_gradient(
        [](Builder& b, const Values& in) -> Values { return {b.emit(Attention{0.5f}, in)[0]}; },
        {random_tensor(Dtype::f64, {1, 5, 4, 2}, 1), random_tensor(Dtype::f64, {1, 5, 2, 2}, 2),
         random_tensor(Dtype::f64, {1, 5, 2, 2}, 3), starts},
        {0, 1, 2});
}

// As in a plan: dq, dk and dv take the place of do, k and v.
TEST(AttentionGrad, MayOverwriteItsOperands) {
    AttentionCase c{.b = 1, .t = 70, .h = 4, .g = 2, .d = 16};
    const std::vector<HostTensor> in = attention_operands(c);
    const HostTensor dout = random_tensor(c.dtype, in[0].type.shape, 4);
    const auto out = run(
        [&](Builder& b, const Values& v) {
            Values x;
            for (Value operand : {v[0], v[1], v[2], v[3]}) x.push_back(b.add(operand, operand));
            const Values y = b.emit(Attention{c.scale()}, {x[0], x[1], x[2]});
            return b.emit(AttentionGrad{c.scale()}, {x[0], x[1], x[2], y[0], y[1], x[3]});
        },
        {in[0], in[1], in[2], dout});
    std::vector<HostTensor> doubled{in[0], in[1], in[2], dout};
    for (HostTensor& t : doubled) {
        for (double& x : t.values) x *= 2;
    }
    const Gradients want = oracle(c, doubled, attention_oracle(c, doubled), doubled[3].values);
    expect_close(out[0], want.dq, 4 * tolerance(c));
    expect_close(out[1], want.dk, 4 * tolerance(c));
    expect_close(out[2], want.dv, 4 * tolerance(c));
}

TEST(AttentionGrad, Refuses) {
    const Type q{Dtype::f32, {1, 5, 4, 8}}, k{Dtype::f32, {1, 6, 2, 8}};
    const Type lse{Dtype::f32, {1, 4, 5}};
    try {
        const Op op = AttentionGrad{};
        rules_of(op).type(op, Operands("attention_grad", std::vector<Type>{q, k, k, q, lse, q}));
        FAIL() << "expected an error";
    } catch (const Error& e) {
        EXPECT_EQ(e.message(),
                  "attention_grad: q and k may differ only in the number of heads, a multiple, got "
                  "f32[1, 5, 4, 8] and f32[1, 6, 2, 8]");
    }
}

}  // namespace
}  // namespace octavo::test
