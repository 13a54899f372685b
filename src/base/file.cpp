#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace octavo {
namespace {

[[noreturn]] void fail_errno(const std::filesystem::path& path, std::string_view what) {
    const int error = errno;
    const char* remedy = "";
    if (error == ENOSPC || error == EDQUOT) remedy = "\n  The disk is full: free some space.";
    if (error == ENOENT) remedy = "\n  Check the path.";
    if (error == EACCES || error == EROFS) remedy = "\n  Check the permissions.";
    fail("{}: cannot {}: {}{}", path.string(), what, std::strerror(error), remedy);
}

struct Descriptor {
    int fd;
    ~Descriptor() { close(fd); }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
    const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.fd < 0) fail_errno(path, "open");
    struct stat info{};
    if (fstat(file.fd, &info) != 0) fail_errno(path, "stat");
    check(S_ISREG(info.st_mode), "{}: expected a regular file", path.string());
    if (info.st_size == 0) return;
    const auto size = static_cast<std::size_t>(info.st_size);
    void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (data == MAP_FAILED) fail_errno(path, "map");
    bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

void announce(std::span<const std::byte> bytes) {
    // Of a longer stretch Linux reads no more than the beginning.
    constexpr std::size_t kStretch = 256 << 10;
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data()) / page * page;
    const auto end = reinterpret_cast<std::uintptr_t>(bytes.data()) + bytes.size();
    for (std::uintptr_t at = begin; at < end; at += kStretch) {
        // Advice: that it was not taken is no error.
        madvise(reinterpret_cast<void*>(at), std::min(kStretch, end - at), MADV_WILLNEED);
    }
}

std::string read_file(const std::filesystem::path& path, std::size_t at_most) {
    const MappedFile file(path);
    check(file.bytes().size() <= at_most, "{}: expected at most {} bytes, got {}", path.string(),
          at_most, file.bytes().size());
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

FileWriter::FileWriter(const std::filesystem::path& path) : path_(path) {
    fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) fail_errno(path, "create");
}

FileWriter::~FileWriter() {
    if (fd_ >= 0) ::close(fd_);
}

void FileWriter::write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_errno(path_, fmt::format("write (after {} bytes)", written_));
        written_ += static_cast<std::size_t>(n);
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
}

void FileWriter::close() {
    if (fsync(fd_) != 0) fail_errno(path_, "sync");
    if (::close(std::exchange(fd_, -1)) != 0) fail_errno(path_, "close");
}

void write_file_atomically(const std::filesystem::path& path, std::string_view contents) {
    std::filesystem::path beside = path;
    beside += ".tmp";
    FileWriter file(beside);
    file.write(contents);
    file.close();
    std::error_code error;
    std::filesystem::rename(beside, path, error);
    check(!error, "{}: cannot rename from {}: {}", path.string(), beside.string(), error.message());
    sync_directory(path.parent_path());
}

void sync_directory(const std::filesystem::path& directory) {
    const std::filesystem::path path = directory.empty() ? "." : directory;
    const Descriptor file{open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (file.fd < 0 || fsync(file.fd) != 0) fail_errno(path, "sync the directory");
}

}  // namespace octavo
