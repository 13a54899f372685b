#include "train/run_folder.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "io/scratch.h"

namespace octavo {
namespace {

TEST(RunFolder, KnowsWhereThingsLie) {
    const RunFolder run{"runs/demo"};
    EXPECT_EQ(run.metrics(), "runs/demo/metrics.jsonl");
    EXPECT_EQ(run.config(), "runs/demo/config.toml");
    EXPECT_EQ(run.checkpoints(), "runs/demo/checkpoints");
    EXPECT_EQ(run.events(), "runs/demo/tb");
    EXPECT_EQ(run.report(), "runs/demo/report.html");
}

TEST(RunLock, MakesTheFolderAndKeepsOthersOut) {
    const Scratch scratch;
    const RunFolder run{scratch / "a/b"};
    std::optional<RunLock> lock(run);
    const std::string error = error_of([&] { RunLock second(run); });
    EXPECT_TRUE(contains(error, "a/b: expected a run folder that nobody uses, got one in use by "));
    EXPECT_TRUE(contains(error, "process " + std::to_string(getpid()) + " on "));
    EXPECT_TRUE(contains(error, "run.dir"));
    lock.reset();
    RunLock third(run);
}

TEST(RunLock, HoldsBetweenProcessesUntilTheOwnerIsKilled) {
    const Scratch scratch;
    const RunFolder run{scratch / "run"};
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t owner = fork();
    if (owner == 0) {
        const RunLock lock(run);
        if (write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    char byte = 0;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    const std::string error = error_of([&] { RunLock lock(run); });
    EXPECT_TRUE(contains(error, "process " + std::to_string(owner) + " on "));

    kill(owner, SIGKILL);
    waitpid(owner, nullptr, 0);
    const RunLock lock(run);
    EXPECT_TRUE(
        contains(Scratch::read(run.lock()), "process " + std::to_string(getpid()) + " on "));
    close(ready[0]);
    close(ready[1]);
}

TEST(RunLock, SaysWhyAFolderCannotBeMade) {
    const Scratch scratch;
    scratch.write("file", "");
    const std::string error = error_of([&] { RunLock lock({scratch / "file/run"}); });
    EXPECT_TRUE(contains(error, "file/run: cannot create the run folder"));
}

}  // namespace
}  // namespace octavo
