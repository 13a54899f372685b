// A file in memory with a path, for readers that take paths.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "fuzz.h"

namespace octavo {

class MemoryFile {
  public:
    MemoryFile(const std::uint8_t* data, std::size_t size)
        : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
        require(fd_ >= 0, "memfd_create works");
        require(write(fd_, data, size) == static_cast<ssize_t>(size), "memory can be written");
    }
    ~MemoryFile() { close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    // Opening it starts at the beginning, as with any file.
    std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

  private:
    int fd_;
};

}  // namespace octavo
