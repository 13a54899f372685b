#include "io/token_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"

namespace octavo {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are mapped as they are");

using Header = std::array<std::int32_t, 256>;

struct Format {
    std::int32_t magic, version;
    std::size_t width;
};
constexpr Format kFormats[] = {{20240520, 1, 2}, {20240801, 7, 4}};

constexpr std::int64_t kMaxTokens = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::int64_t kScanBlock = std::int64_t{1} << 14;

const Format& format_of(const Header& header, const std::string& path) {
    for (const Format& format : kFormats) {
        if (header[0] != format.magic) continue;
        check(header[1] == format.version,
              "{}: expected version {} with magic {}, got version {}\n"
              "  The file is damaged, or was written by a program newer than this one.",
              path, format.version, format.magic, header[1]);
        return format;
    }
    fail(
        "{}: expected an llm.c token file (magic {} or {}), got magic {}\n"
        "  Write token files with: octavo tokenize",
        path, kFormats[0].magic, kFormats[1].magic, header[0]);
}

// The first token that is not below `vocabulary`, or `n`.
template <class Token>
std::int64_t find_outside(const Token* tokens, std::int64_t n, std::int64_t vocabulary) {
    if (vocabulary > std::numeric_limits<Token>::max()) return n;
    const auto limit = static_cast<Token>(vocabulary);
    std::atomic<std::int64_t> first = n;
    const std::int64_t blocks = (n + kScanBlock - 1) / kScanBlock;
    parallel_for(blocks, 16, [&](std::int64_t begin_block, std::int64_t end_block) {
        for (std::int64_t block = begin_block; block < end_block; ++block) {
            const std::int64_t begin = block * kScanBlock, end = std::min(n, begin + kScanBlock);
            if (begin >= first.load(std::memory_order_relaxed)) return;
            // The maximum vectorises; the search for the place does not, and is almost never run.
            Token largest = 0;
            for (std::int64_t i = begin; i < end; ++i) largest = std::max(largest, tokens[i]);
            if (largest < limit) continue;
            const std::int64_t at =
                std::find_if(tokens + begin, tokens + end, [&](Token t) { return t >= limit; }) -
                tokens;
            std::int64_t seen = first.load();
            while (at < seen && !first.compare_exchange_weak(seen, at)) {
            }
            return;
        }
    });
    return first;
}

// Fills in the header of a finished file and syncs it.
void write_header(const std::filesystem::path& path, const Header& header) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    const bool written =
        fd >= 0 && pwrite(fd, header.data(), sizeof header, 0) == sizeof header && fsync(fd) == 0;
    const int error = errno;
    if (fd >= 0) close(fd);
    check(written, "{}: cannot write the header: {}", path.string(), std::strerror(error));
}

}  // namespace

TokenFile::TokenFile(const std::filesystem::path& path) : file_(path) {
    const std::string name = path.string();
    const std::size_t bytes = file_.bytes().size();
    check(bytes > 0, "{}: expected a token file, got an empty file", name);
    check(bytes >= sizeof(Header),
          "{}: expected a header of {} bytes, got {} bytes in all\n"
          "  The file is truncated, or is not a token file.",
          name, sizeof(Header), bytes);
    Header header;
    std::memcpy(header.data(), file_.bytes().data(), sizeof header);
    width_ = format_of(header, name).width;
    size_ = header[2];

    check(size_ >= 0, "{}: the header says {} tokens\n  The file is damaged.", name, size_);
    const std::size_t payload = bytes - sizeof header;
    check(payload % width_ == 0,
          "{}: expected {} bytes a token after the header, got {} bytes\n"
          "  The file is truncated or damaged: write or copy it again.",
          name, width_, payload);
    check(payload / width_ == static_cast<std::size_t>(size_),
          "{}: the header says {} tokens, the file has {}\n"
          "  The file is {}: write or copy it again.",
          name, size_, payload / width_,
          payload / width_ < static_cast<std::size_t>(size_) ? "truncated" : "damaged");
    check(size_ > 0, "{}: the token file holds no tokens", name);
}

const std::byte* TokenFile::data() const { return file_.bytes().data() + sizeof(Header); }

void TokenFile::read(std::int64_t begin, std::span<std::int32_t> out) const {
    const auto n = static_cast<std::int64_t>(out.size());
    check(begin >= 0 && begin <= size_ && n <= size_ - begin,
          "{}: tokens [{}, {} + {}) are outside the file of {} tokens", path().c_str(), begin,
          begin, n, size_);
    if (width_ == 2) {
        std::copy_n(narrow() + begin, n, out.data());
    } else {
        std::memcpy(out.data(), wide() + begin, out.size_bytes());
    }
}

void TokenFile::check_vocabulary(std::int64_t vocabulary) const {
    const std::int64_t at = width_ == 2 ? find_outside(narrow(), size_, vocabulary)
                                        : find_outside(wide(), size_, vocabulary);
    if (at == size_) return;
    fail(
        "{}: expected token ids below the vocabulary of {}, got {} at position {}\n"
        "  The tokens were made with another tokenizer than the model's.",
        path().string(), vocabulary, (*this)[at], at);
}

TokenFileWriter::TokenFileWriter(const std::filesystem::path& path, std::int64_t vocabulary)
    : path_(path),
      beside_(path.string() + ".tmp"),
      vocabulary_(vocabulary),
      width_(vocabulary <= 65536 ? 2 : 4),
      file_(beside_) {
    buffer_.reserve(kBufferBytes);
    // The header stays zero until `close`: whatever is cut short has no magic.
    buffer_.resize(sizeof(Header));
}

TokenFileWriter::~TokenFileWriter() {
    std::error_code ignored;
    if (!closed_) std::filesystem::remove(beside_, ignored);
}

void TokenFileWriter::write(std::span<const std::int32_t> tokens) {
    check(static_cast<std::int64_t>(tokens.size()) <= kMaxTokens - size_,
          "{}: an llm.c token file holds fewer than 2^31 tokens\n"
          "  Split the input and write several token files.",
          path_.c_str());
    // As unsigned, negative ids are the largest; the maximum vectorises.
    std::uint32_t largest = 0;
    for (const std::int32_t id : tokens) {
        largest = std::max(largest, static_cast<std::uint32_t>(id));
    }
    if (largest >= vocabulary_) {
        const auto bad = std::find_if(tokens.begin(), tokens.end(),
                                      [&](std::int32_t id) { return id < 0 || id >= vocabulary_; });
        fail("{}: expected token ids below the vocabulary of {}, got {} at position {}",
             path_.string(), vocabulary_, *bad, size_ + (bad - tokens.begin()));
    }
    while (!tokens.empty()) {
        if (buffer_.size() + width_ > kBufferBytes) flush();
        const std::size_t n = std::min(tokens.size(), (kBufferBytes - buffer_.size()) / width_);
        const std::size_t before = buffer_.size();
        buffer_.resize(before + n * width_);
        if (width_ == 2) {
            std::transform(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n),
                           reinterpret_cast<std::uint16_t*>(buffer_.data() + before),
                           [](std::int32_t id) { return static_cast<std::uint16_t>(id); });
        } else {
            std::memcpy(buffer_.data() + before, tokens.data(), n * width_);
        }
        tokens = tokens.subspan(n);
        size_ += static_cast<std::int64_t>(n);
    }
}

void TokenFileWriter::flush() {
    file_.write(buffer_);
    buffer_.clear();
}

void TokenFileWriter::close() {
    check(size_ > 0, "{}: there are no tokens to write", path_.string());
    flush();
    file_.close();
    const Format& format = kFormats[width_ == 2 ? 0 : 1];
    Header header{};
    header[0] = format.magic;
    header[1] = format.version;
    header[2] = static_cast<std::int32_t>(size_);
    write_header(beside_, header);
    std::error_code error;
    std::filesystem::rename(beside_, path_, error);
    check(!error, "{}: cannot rename from {}: {}", path_.string(), beside_.string(),
          error.message());
    closed_ = true;
    sync_directory(path_.parent_path());
}

}  // namespace octavo
