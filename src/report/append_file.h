// A file that only grows, one whole record at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace octavo {

// Every `append` hands its bytes to the system before it returns, so a killed process loses nothing
// that was appended. A write that fails (full disk) is taken back as far as the system lets us and
// thrown as an Error that names the file.
class AppendFile {
  public:
    explicit AppendFile(const std::filesystem::path& path);  // creates if missing
    ~AppendFile();
    AppendFile(AppendFile&& other) noexcept;
    AppendFile& operator=(AppendFile&& other) noexcept;

    void append(std::string_view record);
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
    int fd_ = -1;
    std::int64_t size_ = 0;
};

}  // namespace octavo
