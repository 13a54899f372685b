#include "base/process.h"

#include <gtest/gtest.h>

#include <vector>

namespace octavo {
namespace {

TEST(Process, ResidentMemoryGrowsWithWhatIsTouched) {
    constexpr std::int64_t kBytes = 64 << 20;
    const std::int64_t before = resident_bytes();
    EXPECT_GT(before, 0);
    {
        const std::vector<char> touched(kBytes, 1);
        EXPECT_GE(resident_bytes(), before + kBytes / 2);
        EXPECT_EQ(touched.back(), 1);
    }
    EXPECT_GE(peak_resident_bytes(), before + kBytes / 2);
}

TEST(Process, TheMachineHasMoreMemoryThanIsAvailable) {
    const MachineMemory memory = machine_memory();
    EXPECT_GT(memory.available, 0);
    EXPECT_GT(memory.total, memory.available);
    EXPECT_LT(resident_bytes(), memory.total);
}

}  // namespace
}  // namespace octavo
