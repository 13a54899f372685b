#include "ops/op_test.h"

namespace octavo {
namespace {

TEST(Iota, CountsAlongTheLastDimension) {
    const auto out = test::run(
        [](Builder& b, const Values&) { return Values{b.one(Iota{{Dtype::i32, {2, 3}}}, {})}; },
        {});
    EXPECT_EQ(out[0].values, (std::vector<double>{0, 1, 2, 0, 1, 2}));
}

TEST(Iota, RefusesOtherTypes) {
    Graph g;
    Builder b(g);
    EXPECT_THROW(b.one(Iota{{Dtype::f32, {2}}}, {}), Error);
}

}  // namespace
}  // namespace octavo
