#include "io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace octavo {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;
// `zstd --long=31` asks for windows that the default limit of 27 refuses, and corpora are published
// that way. A file too small to need one does not get one: its header lies.
constexpr int kMaxWindowLog = 31, kSmallFileWindowLog = 27;
constexpr std::int64_t kSmallFile = std::int64_t{1} << 20;

bool is_zstd(std::string_view head) {
    // A frame, or one of the 16 skippable frames that parallel compressors put first (RFC 8878).
    std::uint32_t word = 0;
    if (head.size() < sizeof word) return false;
    std::memcpy(&word, head.data(), sizeof word);
    return word == 0xFD2FB528 || (word & 0xFFFFFFF0) == 0x184D2A50;
}

}  // namespace

void InputFile::FreeZstd::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

InputFile::InputFile(const std::filesystem::path& path) : path_(path), raw_(kChunk) {
    fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    check(fd_ >= 0, "{}: cannot open: {}\n  Check the path and its permissions.", path.string(),
          std::strerror(errno));
    try {
        struct stat info{};
        check(fstat(fd_, &info) == 0, "{}: cannot stat: {}", path.string(), std::strerror(errno));
        check(!S_ISDIR(info.st_mode), "{}: expected a file, got a directory\n  Name its files.",
              path.string());
        if (S_ISREG(info.st_mode)) bytes_total_ = info.st_size;
        while (raw_end_ < 4) {
            const std::size_t n = read_raw(raw_.data() + raw_end_, raw_.size() - raw_end_);
            if (n == 0) break;
            raw_end_ += n;
        }
        const std::string_view head(raw_.data(), raw_end_);
        check(!head.starts_with("\x1f\x8b"),
              "{}: gzip-compressed files are not read\n"
              "  Convert it once: zcat {} | zstd -o FILE.zst",
              path.string(), path.string());
        if (is_zstd(head)) {
            zstd_.reset(ZSTD_createDCtx());
            check(zstd_ != nullptr, "{}: no memory to decompress", path.string());
            const bool small = S_ISREG(info.st_mode) && bytes_total_ < kSmallFile;
            ZSTD_DCtx_setParameter(zstd_.get(), ZSTD_d_windowLogMax,
                                   small ? kSmallFileWindowLog : kMaxWindowLog);
        }
    } catch (...) {
        close(fd_);
        throw;
    }
}

InputFile::~InputFile() { close(fd_); }

std::size_t InputFile::read_raw(char* out, std::size_t size) {
    while (true) {
        const ssize_t n = ::read(fd_, out, size);
        if (n < 0 && errno == EINTR) continue;
        check(n >= 0, "{}: cannot read (after {} bytes): {}", path_.c_str(), bytes_read_,
              std::strerror(errno));
        bytes_read_ += n;
        return static_cast<std::size_t>(n);
    }
}

std::size_t InputFile::read(char* out, std::size_t size) {
    if (zstd_) return read_zstd(out, size);
    if (raw_begin_ == raw_end_) return read_raw(out, size);
    const std::size_t n = std::min(size, raw_end_ - raw_begin_);
    std::memcpy(out, raw_.data() + raw_begin_, n);
    raw_begin_ += n;
    return n;
}

std::size_t InputFile::read_zstd(char* out, std::size_t size) {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
        if (raw_begin_ == raw_end_) {
            raw_begin_ = 0;
            raw_end_ = read_raw(raw_.data(), raw_.size());
        }
        const bool at_end = raw_begin_ == raw_end_;
        if (at_end && !frame_open_) return 0;
        ZSTD_inBuffer input{raw_.data(), raw_end_, raw_begin_};
        const std::size_t result = ZSTD_decompressStream(zstd_.get(), &output, &input);
        check(!ZSTD_isError(result),
              "{}: damaged zstd data near byte {}: {}\n"
              "  Check it with: zstd --test FILE, and download or compress it again.",
              path_.c_str(), bytes_read_ - static_cast<std::int64_t>(raw_end_ - input.pos),
              ZSTD_getErrorName(result));
        raw_begin_ = input.pos;
        frame_open_ = result != 0;
        // The decoder may still have had output to flush; only without any is the file too short.
        check(!(at_end && frame_open_ && output.pos == 0),
              "{}: truncated zstd data: the file ends after {} bytes, in the middle of a frame\n"
              "  Download or compress it again.",
              path_.c_str(), bytes_read_);
    }
    return output.pos;
}

std::string_view LineReader::next(std::size_t limit) {
    std::size_t scanned = begin_;
    while (true) {
        const std::size_t stop = begin_ + std::min(end_ - begin_, limit);
        const void* found =
            scanned < stop ? std::memchr(buffer_.data() + scanned, '\n', stop - scanned) : nullptr;
        std::size_t n = stop - begin_;
        if (found)
            n = static_cast<std::size_t>(static_cast<const char*>(found) - buffer_.data()) + 1 -
                begin_;
        if (found || n == limit) {
            const std::string_view line(buffer_.data() + begin_, n);
            begin_ += n;
            line_ += line_complete_;
            line_complete_ = found != nullptr;
            return line;
        }
        scanned = stop;
        if (begin_ > 0) {
            std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
            scanned -= begin_;
            end_ -= begin_;
            begin_ = 0;
        }
        if (end_ == buffer_.size()) buffer_.resize(std::max(kChunk, 2 * buffer_.size()));
        const std::size_t read = file_.read(buffer_.data() + end_, buffer_.size() - end_);
        end_ += read;
        if (read == 0) {
            // The last line may lack its line break.
            limit = end_ - begin_;
            if (limit == 0) return {};
        }
    }
}

}  // namespace octavo
