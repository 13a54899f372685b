// What makes a GPU unusable, told from what CUDA says about it: no GPU is needed to ask.
#include "backends/cuda/gpu_checks.h"

#include <gtest/gtest.h>

namespace octavo::cuda {
namespace {

GpuFacts h100() {
    return {.driver = 13000,
            .runtime = 13000,
            .devices = 1,
            .name = "NVIDIA H100 80GB HBM3",
            .major = 9,
            .minor = 0};
}

std::string refusal(const GpuFacts& facts) {
    const auto why = why_not(facts);
    return why ? why->reason + " / " + why->remedy : "usable";
}

TEST(GpuChecks, Hopper) {
    EXPECT_EQ(refusal(h100()), "usable");
    GpuFacts eight = h100();
    eight.devices = 8;
    EXPECT_EQ(refusal(eight), "usable");
}

TEST(GpuChecks, NoDriver) {
    EXPECT_EQ(refusal({.driver = 0, .runtime = 13000}),
              "there is no NVIDIA driver / Install driver 580 or newer");
}

TEST(GpuChecks, Drivers) {
    GpuFacts facts = h100();
    facts.driver = 12080;
    const std::string want =
        "the NVIDIA driver knows CUDA 12.8, this build needs 13.0 / Install driver 580 or newer";
    EXPECT_EQ(refusal(facts), want);
    // As it is with such a driver: nothing else can be asked.
    EXPECT_EQ(refusal({.driver = 12080,
                       .runtime = 13000,
                       .error = "CUDA driver version is insufficient for CUDA runtime version"}),
              want);
    facts.driver = 13020;
    EXPECT_EQ(refusal(facts), "usable");
    facts.driver = 13000;
    facts.runtime = 13020;  // minor versions are compatible
    EXPECT_EQ(refusal(facts), "usable");
}

TEST(GpuChecks, NoGpu) {
    EXPECT_EQ(refusal({.driver = 13000, .runtime = 13000}),
              "no GPU is visible (none is there) / See nvidia-smi, and what a container passes on");
    EXPECT_EQ(refusal({.driver = 13000,
                       .runtime = 13000,
                       .error = "no CUDA-capable device is detected",
                       .visible = ""}),
              "no GPU is visible (no CUDA-capable device is detected), CUDA_VISIBLE_DEVICES is '' "
              "/ See nvidia-smi, and what a container passes on");
}

TEST(GpuChecks, OtherArchitectures) {
    GpuFacts facts = h100();
    facts.name = "NVIDIA A100-SXM4-80GB";
    facts.major = 8;
    EXPECT_EQ(refusal(facts),
              "NVIDIA A100-SXM4-80GB has compute capability 8.0, Octavo's kernels are for 9.0 "
              "(Hopper) / Run on an H100 or H200");
    facts.name = "NVIDIA B200";
    facts.major = 10;
    facts.devices = 2;
    EXPECT_EQ(refusal(facts),
              "NVIDIA B200 has compute capability 10.0, Octavo's kernels are for 9.0 (Hopper) / "
              "Choose another of the GPUs with CUDA_VISIBLE_DEVICES");
}

TEST(GpuChecks, GpusThatDoNotAnswer) {
    GpuFacts facts = h100();
    facts.error = "uncorrectable ECC error encountered";
    EXPECT_EQ(refusal(facts),
              "the GPU does not answer (uncorrectable ECC error encountered) / See nvidia-smi and "
              "the kernel's log");
    facts = h100();
    facts.prohibited = true;
    EXPECT_EQ(refusal(facts),
              "NVIDIA H100 80GB HBM3 is in compute mode 'prohibited' / An administrator can change "
              "that: nvidia-smi -c 0");
}

TEST(GpuChecks, MemoryOfOthers) {
    constexpr std::int64_t kGb = 1'000'000'000;
    EXPECT_EQ(memory_note({.free = 84 * kGb, .total = 85 * kGb, .own = 0}), "");
    EXPECT_EQ(memory_note({.free = 44 * kGb, .total = 85 * kGb, .own = 40 * kGb}), "");
    EXPECT_EQ(memory_note({.free = 14 * kGb, .total = 85 * kGb, .own = 40 * kGb}),
              "; about 31.0 GB of the GPU's 85.0 GB are taken by others: a second process may be "
              "running on it (see nvidia-smi)");
}

TEST(GpuChecks, NoMemory) {
    constexpr std::int64_t kGb = 1'000'000'000;
    EXPECT_EQ(no_memory_text({.free = 14 * kGb, .total = 85 * kGb, .own = 40 * kGb}, 20 * kGb),
              "the GPU has 14.00 GB left, and 20.00 GB were asked for; about 31.0 GB of the GPU's "
              "85.0 GB are taken by others: a second process may be running on it (see "
              "nvidia-smi)\n"
              "  Lower train.batch or train.seq, or end other processes that use this GPU.");
    EXPECT_EQ(no_memory_text({.free = 4 * kGb, .total = 85 * kGb, .own = 80 * kGb}, 5 * kGb),
              "the GPU has 4.00 GB left, and 5.00 GB were asked for\n"
              "  Lower train.batch or train.seq, or end other processes that use this GPU.");
}

}  // namespace
}  // namespace octavo::cuda
