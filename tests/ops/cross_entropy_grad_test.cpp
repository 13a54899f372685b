#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Case {
    Dtype dtype;
    std::int64_t m, v;
    double sigma = 1;
};

std::ostream& operator<<(std::ostream& os, const Case& c) {
    return os << name(c.dtype) << "[" << c.m << ", " << c.v << "] sigma " << c.sigma;
}

constexpr double kWeight = 0.25, kDloss = -3;

HostTensor gradient(const HostTensor& logits, const HostTensor& targets) {
    const Dtype sum = accumulator(logits.type.dtype);
    const auto both = [](Builder& b, const Values& in) {
        const Value lse = b.emit(CrossEntropy{}, {in[0], in[1], in[2]})[1];
        return b.emit(CrossEntropyGrad{}, {in[0], in[1], lse, in[2], in[3]});
    };
    return run(both, {logits, targets, tensor(sum, {1}, {kWeight}), tensor(sum, {1}, {kDloss})})[0];
}

std::vector<double> oracle(const HostTensor& logits, const HostTensor& targets) {
    std::vector<double> want(logits.values.size());
    const auto v = static_cast<std::size_t>(logits.type.shape[1]);
    for (std::size_t i = 0; i < targets.values.size(); ++i) {
        if (targets.values[i] < 0) continue;
        const double* x = logits.values.data() + i * v;
        const double top = *std::max_element(x, x + v);
        double sum = 0;
        for (std::size_t j = 0; j < v; ++j) sum += std::exp(x[j] - top);
        for (std::size_t j = 0; j < v; ++j) {
            const double onehot = j == static_cast<std::size_t>(targets.values[i]) ? 1 : 0;
            want[i * v + j] = kDloss * kWeight * (std::exp(x[j] - top) / sum - onehot);
        }
    }
    return want;
}

class CrossEntropyGradTest : public testing::TestWithParam<Case> {};

TEST_P(CrossEntropyGradTest, IsSoftmaxLessOneHot) {
    const Case& c = GetParam();
    const HostTensor logits = random_tensor(c.dtype, {c.m, c.v}, 4, c.sigma);
    HostTensor targets = random_ids({c.m}, c.v, 8);
    for (std::size_t i = 2; i < targets.values.size(); i += 3) targets.values[i] = -1;
    targets = tensor(Dtype::i32, {c.m}, targets.values);
    // Half an ulp of lse, up to about 4 sigma here, is a relative error of the softmax.
    const double lse = 2e-7 * (1 + 4 * c.sigma);
    const double tolerance = c.dtype == Dtype::f64    ? 1e-13
                             : c.dtype == Dtype::f32  ? lse
                             : c.dtype == Dtype::bf16 ? 0x1p-8
                                                      : 0x1p-11;
    const HostTensor got = gradient(logits, targets);
    const std::vector<double> want = oracle(logits, targets);
    expect_close(got, want, tolerance);
    for (std::size_t i = 2; i < targets.values.size(); i += 3) {
        for (std::int64_t j = 0; j < c.v; ++j) {
            EXPECT_EQ(got.values[i * static_cast<std::size_t>(c.v) + static_cast<std::size_t>(j)],
                      0);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropyGradTest,
                         testing::Values(Case{Dtype::f64, 4, 37}, Case{Dtype::f32, 1, 1},
                                         Case{Dtype::f32, 31, 333}, Case{Dtype::f32, 3, 20001, 10},
                                         Case{Dtype::bf16, 12, 129}, Case{Dtype::f16, 5, 65},
                                         Case{Dtype::f32, 4, 50, 1000}, Case{Dtype::bf16, 5, 50257},
                                         Case{Dtype::f32, 0, 8}));

TEST(CrossEntropyGrad, RowsLeftOutAreZeroWhateverTheyHold) {
    const HostTensor logits = tensor(Dtype::f32, {2, 3}, {kNan, kInf, 0, -kInf, 2, 2});
    const HostTensor got = gradient(logits, tensor(Dtype::i32, {2}, {-1, 2}));
    expect_close(got, {0, 0, 0, 0, kWeight * kDloss * 0.5, kWeight * kDloss * -0.5}, 1e-6);
}

TEST(CrossEntropyGrad, InPlaceAndOnAnyThreads) {
    for (Dtype d : {Dtype::f32, Dtype::bf16}) {
        const std::vector<HostTensor> in = {
            random_tensor(d, {13, 2001}, 4), random_ids({13}, 2001, 8),
            tensor(Dtype::f32, {13}, std::vector<double>(13, 8.1)), scalar(0.5), scalar(2)};
        expect_same_in_place(CrossEntropyGrad{}, in);
        expect_same_on_any_threads(as_is(CrossEntropyGrad{}), in);
    }
}

TEST(CrossEntropyGrad, RefusesWrongOperands) {
    const Type one{Dtype::f32, {1}}, logits{Dtype::bf16, {4, 9}}, targets{Dtype::i32, {4}};
    EXPECT_EQ(refusal(as_is(CrossEntropyGrad{}), {logits, targets, {Dtype::f32, {9}}, one, one}),
              "cross_entropy_grad: operand 2 must have shape [4], got f32[9]");
    EXPECT_EQ(refusal(as_is(CrossEntropyGrad{}), {logits, targets, {Dtype::f32, {4}}, one}),
              "cross_entropy_grad takes 5 operands, got 4");
}

}  // namespace
}  // namespace octavo::test
