#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Case {
    Dtype dtype;
    std::int64_t m, v;
    double sigma = 1;
    int ignore_every = 0;  // 0: no row is left out
};

std::ostream& operator<<(std::ostream& os, const Case& c) {
    return os << name(c.dtype) << "[" << c.m << ", " << c.v << "] sigma " << c.sigma << " ignoring "
              << c.ignore_every;
}

HostTensor targets_of(const Case& c) {
    HostTensor t = random_ids({c.m}, c.v, 8);
    for (std::size_t i = 0; i < t.values.size(); ++i) {
        if (c.ignore_every > 0 && i % static_cast<std::size_t>(c.ignore_every) == 0) {
            t.values[i] = i % 2 ? -100 : -1;
        }
    }
    return tensor(Dtype::i32, {c.m}, t.values);
}

struct Wanted {
    double loss = 0;
    std::vector<double> lse;
};

Wanted oracle(const HostTensor& logits, const HostTensor& targets, double weight) {
    Wanted want;
    const auto v = static_cast<std::size_t>(logits.type.shape[1]);
    for (std::size_t i = 0; i < targets.values.size(); ++i) {
        want.lse.push_back(0);
        if (targets.values[i] < 0) continue;
        const double* x = logits.values.data() + i * v;
        const double top = *std::max_element(x, x + v);
        double sum = 0;
        for (std::size_t j = 0; j < v; ++j) sum += std::exp(x[j] - top);
        want.lse.back() = top + std::log(sum);
        want.loss += weight * (want.lse.back() - x[static_cast<std::size_t>(targets.values[i])]);
    }
    return want;
}

class CrossEntropyTest : public testing::TestWithParam<Case> {};

// Logits are exact in the kernel and exp is good to 2 ulp, so the loss of a row is as well. lse is
// rounded to f32.
TEST_P(CrossEntropyTest, AgreesWithTheFormula) {
    const Case& c = GetParam();
    const HostTensor logits = random_tensor(c.dtype, {c.m, c.v}, 4, c.sigma);
    const HostTensor targets = targets_of(c);
    const double weight = 0.125;
    const auto out =
        run(as_is(CrossEntropy{}), {logits, targets, tensor(accumulator(c.dtype), {1}, {weight})});
    const Wanted want = oracle(logits, targets, weight);
    const double tolerance = c.dtype == Dtype::f64 ? 1e-14 : 2e-7;
    expect_close(out[0], {want.loss}, tolerance, tolerance);
    expect_close(out[1], want.lse, tolerance, tolerance);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropyTest,
                         testing::Values(Case{Dtype::f64, 5, 7}, Case{Dtype::f64, 3, 3000, 4, 2},
                                         Case{Dtype::f32, 1, 1}, Case{Dtype::f32, 9, 1},
                                         Case{Dtype::f32, 17, 333}, Case{Dtype::f32, 2, 100003},
                                         Case{Dtype::f32, 64, 1024, 30, 3},
                                         Case{Dtype::f32, 8, 1025, 1e4},
                                         Case{Dtype::f32, 6, 50, 1e-3}, Case{Dtype::bf16, 33, 257},
                                         Case{Dtype::bf16, 5, 4096, 20, 2},
                                         Case{Dtype::f16, 7, 65, 3}, Case{Dtype::f32, 6, 11, 1, 1},
                                         Case{Dtype::bf16, 5, 50257}, Case{Dtype::bf16, 0, 100}));

double loss_of(const std::vector<double>& logits, double target, Dtype d = Dtype::f32) {
    return run(as_is(CrossEntropy{}), {tensor(d, {1, std::ssize(logits)}, logits),
                                       tensor(Dtype::i32, {1}, {target}), scalar(1)})[0]
        .values[0];
}

TEST(CrossEntropy, LargeLogitsKeepTheDigitsOfTheLoss) {
    // lse in f32 is good to 5e-4 here; the loss must not go through it.
    EXPECT_NEAR(loss_of({10000, 9999}, 0), std::log1p(std::exp(-1.0)), 1e-7);
    EXPECT_NEAR(loss_of({-10000, -10001}, 1), 1 + std::log1p(std::exp(-1.0)), 1e-7);
}

TEST(CrossEntropy, LogitsOfMinusInfinityAreMaskedOut) {
    EXPECT_NEAR(loss_of({-kInf, 1, 1, -kInf}, 1), std::log(2.0), 1e-7);
    std::vector<double> logits(3000, -kInf);  // whole blocks of them, at both ends
    logits[1500] = logits[1501] = 3;
    EXPECT_NEAR(loss_of(logits, 1500, Dtype::bf16), std::log(2.0), 1e-7);
    EXPECT_EQ(loss_of({-kInf, 1}, 0), kInf);
}

TEST(CrossEntropy, NonFiniteLogitsShow) {
    EXPECT_TRUE(std::isnan(loss_of({kNan, 1, 2}, 1)));
    EXPECT_TRUE(std::isnan(loss_of({1, 2, kInf}, 1)));
    EXPECT_TRUE(std::isnan(loss_of({-kInf, -kInf}, 1)));
    std::vector<double> late(5000, 1.0);
    late[4999] = kNan;
    EXPECT_TRUE(std::isnan(loss_of(late, 0)));
}

TEST(CrossEntropy, RowsLeftOutMayHoldAnything) {
    const HostTensor logits = tensor(Dtype::f32, {2, 2}, {kNan, kInf, 0, 0});
    const auto out =
        run(as_is(CrossEntropy{}), {logits, tensor(Dtype::i32, {2}, {-1, 0}), scalar(1)});
    EXPECT_NEAR(out[0].values[0], std::log(2.0), 1e-7);
    EXPECT_EQ(out[1].values[0], 0);
}

TEST(CrossEntropy, OnAnyThreads) {
    const Case c{Dtype::bf16, 37, 999, 3, 4};
    expect_same_on_any_threads(as_is(CrossEntropy{}), {random_tensor(c.dtype, {c.m, c.v}, 4, 3),
                                                       targets_of(c), scalar(0.3)});
}

TEST(CrossEntropy, Gradient) {
    for (const Case& c : {Case{Dtype::f64, 4, 5, 1, 3}, Case{Dtype::f64, 3, 1}}) {
        const auto loss = [&](Builder& b, const Values& in) {
            return Values{b.emit(CrossEntropy{}, in)[0]};
        };
        check_gradient(loss,
                       {random_tensor(Dtype::f64, {c.m, c.v}, 4), targets_of(c),
                        tensor(Dtype::f64, {1}, {0.37})},
                       {0});
    }
}

TEST(CrossEntropy, RefusesWrongOperands) {
    const Type one{Dtype::f32, {1}};
    EXPECT_EQ(refusal(as_is(CrossEntropy{}), {{Dtype::bf16, {4, 9}}, {Dtype::i32, {5}}, one}),
              "cross_entropy: operand 1 must have shape [4], got i32[5]");
    EXPECT_EQ(refusal(as_is(CrossEntropy{}), {{Dtype::f64, {4, 9}}, {Dtype::i32, {4}}, one}),
              "cross_entropy: operand 2 must be unscaled f64, got f32[1]");
    const auto through_lse = [](Builder& b, const Values& in) {
        const Values out = b.emit(CrossEntropy{}, in);
        return differentiate(b, out[1], {in[0]});
    };
    EXPECT_EQ(refusal(through_lse, {{Dtype::f32, {1, 9}}, {Dtype::i32, {1}}, one}),
              "cross_entropy: no gradient flows through its second result, lse");
}

}  // namespace
}  // namespace octavo::test
