#include "base/nearest.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

TEST(Nearest, FindsTheLeastDistance) {
    const std::vector<std::string> names = {"train.lr", "train.seq", "train.steps", "eval.every"};
    EXPECT_EQ(nearest("train.stesp", names), "train.steps");
    EXPECT_EQ(nearest("train.step", names), "train.steps");
    EXPECT_EQ(nearest("trian.lr", names), "train.lr");
    EXPECT_EQ(nearest("train.lrr", names), "train.lr");
    EXPECT_EQ(nearest("train.lr", names), "train.lr");
}

TEST(Nearest, ASwapOfNeighboursCostsOne) {
    EXPECT_EQ(nearest("ba", {"ab", "zz"}), "ab");
    EXPECT_EQ(nearest("ax", {"ba"}), "");
}

TEST(Nearest, KnowsWhenNothingIsNear) {
    EXPECT_EQ(nearest("optimizer.momentum", {"train.lr", "eval.every"}), "");
    EXPECT_EQ(nearest("", {"train.lr"}), "");
    EXPECT_EQ(nearest("x", {}), "");
    EXPECT_EQ(nearest(std::string(1000000, 'x'), {"train.lr"}), "");
    EXPECT_EQ(nearest("train.lr", {std::string(1000000, 'x')}), "");
}

}  // namespace
}  // namespace octavo
