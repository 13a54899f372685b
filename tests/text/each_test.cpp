#include "text/each.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace octavo {
namespace {

TEST(ForEachItem, VisitsEachOnce) {
    std::vector<std::atomic<int>> visits(10'000);
    for_each_item(visits.size(), [&](std::size_t thread, std::size_t i) {
        EXPECT_LT(thread, static_cast<std::size_t>(thread_count()));
        ++visits[i];
    });
    for (const auto& n : visits) ASSERT_EQ(n, 1);
    for_each_item(0, [](std::size_t, std::size_t) { FAIL(); });
}

TEST(ForEachItem, ThrowsWhatTheFirstItemThrew) {
    std::atomic<int> done = 0;
    try {
        for_each_item(1000, [&](std::size_t, std::size_t i) {
            ++done;
            if (i % 100 == 17) throw std::runtime_error(std::to_string(i));
        });
        FAIL();
    } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "17");
    }
    EXPECT_EQ(done, 1000);
}

}  // namespace
}  // namespace octavo
