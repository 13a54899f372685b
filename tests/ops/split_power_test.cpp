#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(SplitPower, TakesThePowerOfTheProduct) {
    const auto split = [](double x, double y) {
        const auto out = run(as_is(SplitPower{}), {scalar(x), scalar(y)});
        return std::pair(out[0].values[0], out[1].values[0]);
    };
    EXPECT_EQ(split(3, 5), std::pair(5.0 / 8, 8.0));
    EXPECT_EQ(split(-0.25, 0.75), std::pair(6.0, 0.125));
    EXPECT_EQ(split(1, 1), std::pair(1.0, 1.0));
    EXPECT_EQ(split(0, 7), std::pair(7.0, 1.0));
    EXPECT_EQ(split(kInf, 7), std::pair(7.0, 1.0));
    EXPECT_EQ(split(kNan, 7), std::pair(7.0, 1.0));
}

}  // namespace
}  // namespace octavo::test
