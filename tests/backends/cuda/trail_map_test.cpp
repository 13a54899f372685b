#include "backends/cuda/trail_map.h"

#include <gtest/gtest.h>

namespace octavo::cuda {
namespace {

using Texts = std::vector<std::string>;

Texts steps(int count) {
    Texts all;
    for (int i = 0; i < count; ++i) all.push_back("s" + std::to_string(i));
    return all;
}

// What the map says after each mark that a run leaves is what runs until the next.
TEST(TrailMap, NamesTheStepsBetweenTwoMarks) {
    for (const std::size_t spacing : {1, 3, 8, 100}) {
        for (const int count : {1, 2, 3, 7, 8, 9, 24}) {
            TrailMap map;
            map.add("other", steps(5), spacing);
            const Texts all = steps(count);
            const std::uint32_t first = map.add("micro", all, spacing);
            map.add("last", steps(5), spacing);
            std::uint32_t mark = first;
            Texts since;
            for (std::size_t i = 0; i < all.size(); ++i) {
                since.push_back(all[i]);
                if (!is_marked(i, all.size(), spacing)) continue;
                EXPECT_EQ(map.after(mark).plan, "micro");
                EXPECT_EQ(map.after(mark).steps, since) << spacing << " " << count << " " << i;
                EXPECT_LE(since.size(), spacing);
                mark = first + static_cast<std::uint32_t>(i) + 1;
                since.clear();
            }
            // A plan that is told by its beginning has no end.
            EXPECT_EQ(since.empty(), all.size() > spacing);
            EXPECT_EQ(map.after(mark).plan, "micro");
            EXPECT_EQ(map.after(mark).steps, since);
        }
    }
}

TEST(TrailMap, KnowsNothingOfPlansThatAreGone) {
    TrailMap map;
    EXPECT_EQ(map.after(0).plan, "");
    const std::uint32_t a = map.add("a", steps(4), 2), b = map.add("b", steps(4), 2);
    EXPECT_EQ(map.after(0).plan, "");
    map.remove(b);
    EXPECT_EQ(map.after(b).plan, "");
    EXPECT_EQ(map.after(b + 3).plan, "");
    EXPECT_EQ(map.after(a + 2).steps, (Texts{"s2", "s3"}));
}

TEST(TrailMap, PlansWithoutSteps) {
    TrailMap map;
    const std::uint32_t empty = map.add("empty", {}, 8), next = map.add("next", steps(1), 8);
    EXPECT_NE(empty, next);
    EXPECT_EQ(map.after(empty).plan, "empty");
    EXPECT_EQ(map.after(empty).steps, Texts());
}

TEST(FaultText, SaysWhere) {
    const std::string tool = "compute-sanitizer octavo ... names the kernel and the thread.";
    EXPECT_EQ(fault_text("it broke", {}), "CUDA: it broke, outside of any plan\n  " + tool);
    EXPECT_EQ(fault_text("it broke", {"micro", {}}),
              "CUDA: it broke, after plan 'micro' had ended\n  " + tool);
    EXPECT_EQ(fault_text("it broke", {"micro", {"add 'x' (forward, add)"}}),
              "CUDA: it broke, in plan 'micro' at add 'x' (forward, add)\n  " + tool);
    EXPECT_EQ(fault_text("it broke", {"micro", {"a", "b"}}),
              "CUDA: it broke, in plan 'micro' at one of 2 steps:\n  a\n  b\n  With "
              "--runtime.trace=true the error names the one; " +
                  tool);
}

}  // namespace
}  // namespace octavo::cuda
