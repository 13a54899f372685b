#include "ops/plain_test.h"

namespace octavo::test {
namespace {

struct Wanted {
    std::vector<double> y;
    double spread = 0;  // the largest distance of an operand from the top of its row
};

Wanted oracle(const HostTensor& x) {
    Wanted want;
    const auto c = static_cast<std::size_t>(x.type.shape.last());
    for (std::size_t row = 0; row * c < x.values.size(); ++row) {
        const auto begin = x.values.begin() + static_cast<std::ptrdiff_t>(row * c);
        const std::vector<double> xr(begin, begin + static_cast<std::ptrdiff_t>(c));
        const auto [least, top] = std::ranges::minmax(xr);
        double sum = 0;
        for (const double v : xr) sum += std::exp(v - top);
        for (const double v : xr) want.y.push_back(std::exp(v - top) / sum);
        want.spread = std::max(want.spread, top - least);
    }
    return want;
}

// A sum of c terms has a relative error of c roundings at most, and an exponential that of its
// operand, as much larger as that is; on GPUs more than twice that for 16 bits.
void check_case(Dtype dtype, const Shape& shape, double sigma) {
    SCOPED_TRACE(to_string(Type{dtype, shape}));
    const HostTensor x = random_tensor(dtype, shape, 1, sigma);
    const HostTensor y = run(as_is(Softmax{}), {x})[0];
    EXPECT_EQ(y.type, x.type);
    const Wanted want = oracle(x);
    const double steps = 16 + 4 * want.spread + static_cast<double>(shape.last());
    expect_each(y, want.y, tolerance(dtype, steps), dtype == Dtype::f16 ? 0x1p-25 : 0);
    expect_same_in_place(Softmax{}, {x});
}

TEST(Softmax, MatchesTheOracle) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            for (const double sigma : {0.01, 3.0}) check_case(dtype, shape, sigma);
        }
        check_case(dtype, {2, 50257}, 1);
    }
}

std::vector<double> softmax(const std::vector<double>& row, Dtype d = Dtype::f32) {
    return run(as_is(Softmax{}), {tensor(d, {1, std::ssize(row)}, row)})[0].values;
}

TEST(Softmax, Edges) {
    EXPECT_EQ(softmax({-5}), (std::vector<double>{1}));
    EXPECT_EQ(softmax({1e38, -1e38}), (std::vector<double>{1, 0}));
    EXPECT_EQ(softmax({-kInf, 2, 2, -kInf}), (std::vector<double>{0, 0.5, 0.5, 0}));
    std::vector<double> masked(3000, -kInf);  // whole blocks of them, at both ends
    masked[1500] = masked[1501] = 3;
    const auto y = softmax(masked, Dtype::bf16);
    EXPECT_EQ(y[1500], 0.5);
    EXPECT_EQ(y[2999], 0);
}

TEST(Softmax, NonFiniteRowsAreNan) {
    const std::vector<std::vector<double>> rows = {{kNan, 1, 2}, {1, 2, kInf}, {-kInf, -kInf}};
    for (const auto& row : rows) {
        for (const double v : softmax(row)) EXPECT_TRUE(std::isnan(v));
    }
    // And no other row.
    const HostTensor x = tensor(Dtype::f32, {2, 2}, {kNan, 1, 3, 3});
    expect_close(run(as_is(Softmax{}), {x})[0], {kNan, kNan, 0.5, 0.5}, 0);
}

TEST(Softmax, OnAnyThreads) {
    expect_same_on_any_threads(as_is(Softmax{}), {random_tensor(Dtype::bf16, {37, 999}, 4, 3)});
}

TEST(Softmax, Gradient) {
    check_gradient(as_is(Softmax{}), {random_tensor(Dtype::f64, {3, 7}, 1)}, {0});
    check_gradient(as_is(Softmax{}), {random_tensor(Dtype::f64, {3, 1}, 1)}, {0});
    const auto with_exponent = [](Builder& b, const Values& in) {
        return differentiate(b, b.one(Softmax{.result_exponent = 1}, in), in);
    };
    EXPECT_EQ(refusal(with_exponent, {{Dtype::f32, {1}}}), "softmax: no gradient with exponents");
}

}  // namespace
}  // namespace octavo::test
