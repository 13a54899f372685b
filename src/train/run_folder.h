// The folder of a run: where things lie in it, and the lock that keeps others out.
#pragma once

#include <filesystem>

namespace octavo {

struct RunFolder {
    std::filesystem::path path;

    std::filesystem::path lock() const { return path / "lock"; }
    std::filesystem::path config() const { return path / "config.toml"; }  // resolved
    std::filesystem::path metrics() const { return path / "metrics.jsonl"; }
    std::filesystem::path scales() const { return path / "scales.jsonl"; }
    std::filesystem::path events() const { return path / "tb"; }  // of TensorBoard event files
    std::filesystem::path report() const { return path / "report.html"; }
    std::filesystem::path checkpoints() const { return path / "checkpoints"; }
};

// Makes the folder and holds it for this process as long as the object lives; the system lets go
// when the process ends, however it ends. Throws Error naming the process and machine that holds
// it. Only writers need it.
class RunLock {
  public:
    explicit RunLock(const RunFolder& run);
    ~RunLock();
    RunLock(const RunLock&) = delete;
    RunLock& operator=(const RunLock&) = delete;

  private:
    int fd_ = -1;
};

}  // namespace octavo
