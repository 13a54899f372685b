#include "exchange/owners.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace octavo {
namespace {

TEST(Owners, WorkedExample) {
    const std::vector<std::int64_t> sizes = {9, 7, 6, 5, 5, 4, 2, 2};
    const Owners owners = assign_owners(sizes, 3);
    EXPECT_EQ(owners.owner, (std::vector{0, 1, 2, 2, 1, 0, 2, 1}));
    EXPECT_EQ(owners.load, (std::vector<std::int64_t>{13, 14, 13}));
    EXPECT_EQ(owners.largest_load(), 14);
}

// Transformer layers, whose four Linear weights have 3, 1, 4 and 4 h^2 elements.
TEST(Owners, BalanceOfLayers) {
    struct Case {
        int layers, ranks;
        std::int64_t largest;
    };
    for (const Case& c : {Case{32, 32, 12}, Case{32, 128, 4}, Case{12, 32, 6}, Case{40, 16, 30}}) {
        SCOPED_TRACE(testing::Message() << c.layers << " layers, " << c.ranks << " ranks");
        std::vector<std::int64_t> sizes;
        for (int i = 0; i < c.layers; ++i) sizes.insert(sizes.end(), {3, 1, 4, 4});
        const Owners owners = assign_owners(sizes, c.ranks);
        EXPECT_EQ(owners.largest_load(), c.largest);
        std::vector<std::int64_t> load(owners.load.size());
        for (std::size_t i = 0; i < sizes.size(); ++i) load[owners.owner[i]] += sizes[i];
        EXPECT_EQ(load, owners.load);
    }
    std::vector<std::int64_t> sizes;
    for (int i = 0; i < 32; ++i) sizes.insert(sizes.end(), {3, 1, 4, 4});
    for (const std::int64_t load : assign_owners(sizes, 32).load) EXPECT_EQ(load, 12);
}

TEST(Owners, MoreRanksThanTensors) {
    const Owners owners = assign_owners(std::vector<std::int64_t>{5, 5}, 3);
    EXPECT_EQ(owners.owner, (std::vector{0, 1}));
    EXPECT_EQ(owners.load, (std::vector<std::int64_t>{5, 5, 0}));
    EXPECT_EQ(assign_owners({}, 2).largest_load(), 0);
    EXPECT_THROW(assign_owners({}, 0), Error);
}

}  // namespace
}  // namespace octavo
