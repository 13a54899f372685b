// A step that the GPU does not survive, in a process of its own: the error names where it was, the
// next checkpoint fails and the one before it stays whole.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "backends/cpu/cpu.h"
#include "train/checkpoint.h"
#include "train/tiny.h"

namespace octavo::test {
namespace {

const Log kSilent = [](const std::string&) {};

// Of the test's process and of the one that faults, which finds it in its environment.
std::filesystem::path shared_folder() {
    if (const char* folder = std::getenv("OCTAVO_FAULT_FOLDER")) return folder;
    std::string made = (std::filesystem::temp_directory_path() / "octavo-XXXXXX").string();
    if (!mkdtemp(made.data())) throw std::runtime_error("mkdtemp failed: " + made);
    setenv("OCTAVO_FAULT_FOLDER", made.c_str(), 1);
    return made;
}

[[noreturn]] void train_into_fault(const std::filesystem::path& folder) {
    int code = 0;
    try {
        const StepOptions options = tiny_options(Family::llama, "bf16");
        Session session(options);
        TokenBatch batch = random_batch(options, 1);
        for (int t = 1; t <= 3; ++t) {  // from the second on as a CUDA graph
            session.micro(batch);
            session.program.update(1e-3, t);
        }
        save_checkpoint(folder, session.state(),
                        {.step = 3, .recipe = "bf16", .octavo = "test", .extra = {}}, {});
        batch.ids[5] = std::numeric_limits<std::int32_t>::max();
        try {
            session.micro(batch);
        } catch (const DeviceFault& fault) {
            std::fputs(fault.what(), stderr);
        }
        save_checkpoint(folder, session.state(),
                        {.step = 4, .recipe = "bf16", .octavo = "test", .extra = {}}, {});
    } catch (const DeviceFault&) {
        code = 1;
    }
    std::exit(code);
}

TEST(TrainFault, LeavesTheCheckpointBefore) {
    if (!on_cuda()) GTEST_SKIP() << "for a GPU: OCTAVO_TEST_BACKEND=cuda";
    backend();  // ends the process where there is none
    const std::filesystem::path folder = shared_folder();
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(train_into_fault(folder), testing::ExitedWithCode(1),
                "cudaErrorIllegalAddress.*, in plan 'micro' at one of 8 steps:.*embedding "
                "'model.embed_tokens' \\(forward, embedding\\)");
    int folders = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        folders += entry.is_directory() ? 1 : 0;
    }
    EXPECT_EQ(folders, 1);
    const auto latest = latest_checkpoint(folder, kSilent);
    ASSERT_TRUE(latest);
    const auto cpu = make_cpu_backend();
    TrainProgram program(*cpu, tiny_options(Family::llama, "bf16"), false);
    program.allocate(kNoLimit);
    EXPECT_EQ(load_checkpoint(*latest, program.state()).step, 3);
    unsetenv("OCTAVO_FAULT_FOLDER");
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace octavo::test
