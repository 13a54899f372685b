#include "ops/plain_test.h"

namespace octavo::test {
namespace {

double size_of_data(const DynamicRescale& op, const HostTensor& x, double scale = 1) {
    return run(as_is(op), {x, scalar(scale)})[0].values[0];
}

TEST(DynamicRescale, Examples) {
    EXPECT_EQ(size_of_data({Statistic::max}, vector(Dtype::f32, {2, -3}), 4), 8);
    EXPECT_EQ(size_of_data({Statistic::l1}, vector(Dtype::f32, {1, -6}), 4), 8);
    EXPECT_EQ(size_of_data({Statistic::l2}, vector(Dtype::f32, {4, -8}), 4), 16);
    EXPECT_EQ(size_of_data({Statistic::l2, -3}, vector(Dtype::f32, {4, -8}), 4), 2);
    for (const Statistic s : {Statistic::l2, Statistic::l1, Statistic::max}) {
        EXPECT_EQ(size_of_data({s}, vector(Dtype::f32, {0, 0, 0})), 0x1p-14);
        EXPECT_EQ(size_of_data({s}, vector(Dtype::f32, {})), 0x1p-14);
        EXPECT_EQ(size_of_data({s}, vector(Dtype::f32, {1, kInf, 1}), 0.5), 0.5);
        EXPECT_EQ(size_of_data({s}, vector(Dtype::f32, {1, kNan, 1}), 0.5), 0.5);
    }
}

TEST(DynamicRescale, MatchesTheOracle) {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
        for (const Shape& shape : {Shape{5}, Shape{3, 129}, Shape{4096}, Shape{31, 1001}}) {
            const HostTensor x = random_tensor(dtype, shape, 7, 0.3);
            double squares = 0, sum = 0, top = 0;
            for (const double v : x.values) {
                squares += v * v;
                sum += std::abs(v);
                top = std::max(top, std::abs(v));
            }
            const auto n = static_cast<double>(x.values.size());
            const std::pair<Statistic, double> want[] = {{Statistic::l2, std::sqrt(squares / n)},
                                                         {Statistic::l1, sum / n},
                                                         {Statistic::max, top}};
            for (const auto& [statistic, size] : want) {
                EXPECT_EQ(size_of_data({statistic}, x), std::exp2(std::floor(std::log2(size))));
            }
        }
    }
}

TEST(DynamicRescale, TakesCodesWithoutAScale) {
    const auto size = run(
        [](Builder& b, const Values& in) {
            const Value codes = b.cast(in[0], Dtype::e5m2);
            return Values{b.one(DynamicRescale{}, {codes, in[1]})};
        },
        {vector(Dtype::f32, {4, -8}), scalar(4)});
    EXPECT_EQ(size[0].values[0], 16);
}

}  // namespace
}  // namespace octavo::test
