// A file read front to back, plain or zstd-compressed (told apart by its first bytes), without ever
// holding it whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct ZSTD_DCtx_s;

namespace octavo {

// Throws Error if the file cannot be read, is gzip, or is zstd that is damaged or truncated.
class InputFile {
  public:
    explicit InputFile(const std::filesystem::path& path);
    ~InputFile();
    InputFile(const InputFile&) = delete;
    InputFile& operator=(const InputFile&) = delete;

    // Up to `size` bytes of (decompressed) content; 0 only at the end.
    std::size_t read(char* out, std::size_t size);

    const std::filesystem::path& path() const { return path_; }
    // Bytes of the file itself, for progress: read so far, and in all (0 if it is a pipe).
    std::int64_t bytes_read() const { return bytes_read_; }
    std::int64_t bytes_total() const { return bytes_total_; }

  private:
    struct FreeZstd {
        void operator()(ZSTD_DCtx_s* context) const;
    };
    std::size_t read_raw(char* out, std::size_t size);
    std::size_t read_zstd(char* out, std::size_t size);

    std::filesystem::path path_;
    int fd_ = -1;
    std::int64_t bytes_read_ = 0, bytes_total_ = 0;
    std::vector<char> raw_;  // bytes of the file not yet handed out: [raw_begin_, raw_end_)
    std::size_t raw_begin_ = 0, raw_end_ = 0;
    std::unique_ptr<ZSTD_DCtx_s, FreeZstd> zstd_;
    bool frame_open_ = false;
};

// The lines of a file.
class LineReader {
  public:
    explicit LineReader(const std::filesystem::path& path) : file_(path) {}

    // The next line with its line break, or the first `limit` bytes of it if it is longer (the rest
    // comes with the next call). Empty at the end of the file. Valid until the next call.
    std::string_view next(std::size_t limit);

    std::int64_t line() const { return line_; }  // number of the last line returned, from 1
    const InputFile& file() const { return file_; }

  private:
    InputFile file_;
    std::vector<char> buffer_;
    std::size_t begin_ = 0, end_ = 0;
    std::int64_t line_ = 0;
    bool line_complete_ = true;
};

}  // namespace octavo
