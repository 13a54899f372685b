#include "report/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace octavo {
namespace {

[[noreturn]] void fail_errno(const std::filesystem::path& path, const char* what) {
    const int error = errno;
    const char* remedy = "Check the path and its permissions.";
    if (error == ENOSPC || error == EDQUOT) remedy = "The disk is full: free some space.";
    fail("{}: cannot {}: {}\n  {}", path.string(), what, std::strerror(error), remedy);
}

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path) : path_(path) {
    fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd_ < 0) fail_errno(path, "open for appending");
    size_ = lseek(fd_, 0, SEEK_END);
}

AppendFile::~AppendFile() {
    if (fd_ >= 0) close(fd_);
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    std::swap(size_, other.size_);
    return *this;
}

void AppendFile::append(std::string_view record) {
    std::string_view rest = record;
    while (!rest.empty()) {
        const ssize_t n = write(fd_, rest.data(), rest.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const int error = errno;
            // Half a record would corrupt the next one. If this fails too, readers see a torn end.
            [[maybe_unused]] const int undone = ftruncate(fd_, size_);
            errno = error;
            fail_errno(path_, "append");
        }
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
    size_ += static_cast<std::int64_t>(record.size());
}

}  // namespace octavo
