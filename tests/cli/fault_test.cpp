// A device that fails in the middle of a run: what it was at is told, nothing is saved from it, and
// the newest checkpoint goes on.
#include <algorithm>

#include "backends/cpu/cpu.h"
#include "cli/program.h"
#include "config/load.h"
#include "train/trainer.h"

namespace octavo::test {
namespace {

// The CPU, until it fails; then as a GPU is after an illegal access.
class FailingBackend final : public Backend {
  public:
    void fail_from_now_on() { failed_ = true; }
    int calls_after() const { return calls_after_; }

    std::string_view name() const override { return "failing"; }
    const KernelRegistry& kernels() const override { return cpu_->kernels(); }
    std::byte* allocate(std::int64_t bytes) override {
        expect_alive();
        return cpu_->allocate(bytes);
    }
    void release(std::byte* memory, std::int64_t bytes) override { cpu_->release(memory, bytes); }
    std::int64_t available_bytes() const override { return cpu_->available_bytes(); }
    void copy_in(std::byte* to, const std::byte* from, std::int64_t bytes) override {
        expect_alive();
        cpu_->copy_in(to, from, bytes);
    }
    void copy_out(std::byte* to, const std::byte* from, std::int64_t bytes) override {
        expect_alive();
        cpu_->copy_out(to, from, bytes);
    }
    void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override {
        expect_alive();
        cpu_->copy(to, from, bytes);
    }
    void synchronize() override { expect_alive(); }
    std::unique_ptr<Stopwatch> make_stopwatch() override { return cpu_->make_stopwatch(); }

  private:
    void expect_alive() {
        if (!failed_) return;
        ++calls_after_;
        throw DeviceFault("CUDA: it broke, in plan 'micro' at add 'x'\n  See the tools.");
    }

    std::unique_ptr<Backend> cpu_ = make_cpu_backend();
    bool failed_ = false;
    int calls_after_ = 0;
};

class DeviceFaults : public Workspace {
  protected:
    RunConfig config() const {
        return load_config(path("run.toml"),
                           {{.key = "run.dir", .text = path("run"), .spelled = "--run.dir"}});
    }
    // Fails once the line of this step has been printed.
    Error failure_after(int step) const {
        FailingBackend backend;
        TrainOutput out;
        out.print = [&](std::string_view line) {
            if (line.find(std::to_string(step) + "/24 ") != std::string_view::npos) {
                backend.fail_from_now_on();
            }
        };
        try {
            octavo::train(config(), backend, out);
        } catch (const DeviceFault& fault) {
            EXPECT_EQ(backend.calls_after(), 1) << "after the fault the device was asked again";
            return fault;
        }
        ADD_FAILURE() << "the run did not fail";
        return Error("");
    }
    std::vector<std::string> checkpoints() const {
        std::vector<std::string> names;
        if (!std::filesystem::exists(folder_ / "run" / "checkpoints")) return names;
        for (const auto& e : std::filesystem::directory_iterator(folder_ / "run" / "checkpoints")) {
            if (e.is_directory()) names.push_back(e.path().filename().string());
        }
        std::ranges::sort(names);
        return names;
    }
};

TEST_F(DeviceFaults, LeaveTheNewestCheckpoint) {
    const Error error = failure_after(12);
    EXPECT_EQ(error.message(), "after step 12: CUDA: it broke, in plan 'micro' at add 'x'");
    EXPECT_EQ(error.hint(),
              "See the tools.\n  The checkpoint of step 10 is whole: the same command goes on from "
              "it.");
    EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step_0000005", "step_0000010"}));
    const Finished on =
        run({"train", path("run.toml"), "--run.dir", path("run"), "--runtime.backend", "cpu"});
    EXPECT_EQ(on.exit_code, 0) << on.text;
    EXPECT_NE(on.text.find("at step 10"), std::string::npos) << on.text;
}

TEST_F(DeviceFaults, WhileACheckpointIsWritten) {
    const Error error = failure_after(15);  // a checkpoint is due
    EXPECT_EQ(
        error.message(),
        "after step 15: the checkpoint of step 15 was not saved (earlier ones are untouched): "
        "CUDA: it broke, in plan 'micro' at add 'x'");
    EXPECT_EQ(slurp(folder_ / "run" / "checkpoints" / "latest"), "step_0000010\n");
    const Finished on =
        run({"train", path("run.toml"), "--run.dir", path("run"), "--runtime.backend", "cpu"});
    EXPECT_EQ(on.exit_code, 0) << on.text;
    EXPECT_NE(on.text.find("at step 10"), std::string::npos) << on.text;
}

TEST_F(DeviceFaults, BeforeTheFirstCheckpoint) {
    EXPECT_EQ(failure_after(2).hint(), "See the tools.\n  There is no checkpoint yet.");
    EXPECT_EQ(checkpoints(), std::vector<std::string>());
}

}  // namespace
}  // namespace octavo::test
