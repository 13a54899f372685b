#include "train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"

namespace octavo {
namespace {

std::string this_machine() {
    std::array<char, 256> name{};
    gethostname(name.data(), name.size() - 1);
    return name.data();
}

std::string contents(int fd) {
    std::array<char, 512> text{};
    const ssize_t n = pread(fd, text.data(), text.size(), 0);
    return {text.data(), static_cast<std::size_t>(n > 0 ? n : 0)};
}

[[noreturn]] void fail_lock(const std::filesystem::path& path, int fd, int error) {
    if (error == EWOULDBLOCK) {
        std::string owner = contents(fd);
        if (owner.empty()) owner = "another process";  // it has not written its name yet
        fail(
            "{}: expected a run folder that nobody uses, got one in use by {}\n  Wait for that run "
            "or stop it, or give this one another folder (run.dir).",
            path.parent_path().string(), owner);
    }
    const char* remedy = error == EACCES || error == EROFS || error == EPERM
                             ? "Check the permissions."
                             : "Choose a folder on a file system that has locks (flock).";
    fail("{}: cannot lock: {}\n  {}", path.string(), std::strerror(error), remedy);
}

}  // namespace

RunLock::RunLock(const RunFolder& run) {
    std::error_code error;
    std::filesystem::create_directories(run.path, error);
    check(!error, "{}: cannot create the run folder: {}\n  Choose another run.dir.",
          run.path.string(), error.message());

    const auto path = run.lock();
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) fail_lock(path, fd_, errno);
    try {
        if (flock(fd_, LOCK_EX | LOCK_NB) != 0) fail_lock(path, fd_, errno);
        // The name is for messages: the lock holds even where a full disk leaves it empty.
        const std::string owner = fmt::format("process {} on {}", getpid(), this_machine());
        if (ftruncate(fd_, 0) == 0 && pwrite(fd_, owner.data(), owner.size(), 0) < 0) errno = 0;
    } catch (...) {
        close(fd_);
        throw;
    }
}

// The file stays: removing it would race with a process that has opened it and waits for nothing.
RunLock::~RunLock() { close(fd_); }

}  // namespace octavo
