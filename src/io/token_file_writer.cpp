#include "io/token_file_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxTokens = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::size_t kLlmcHeader = 1024;

fs::path with(fs::path path, std::string_view more) { return path += more; }
fs::path index_of(fs::path path) { return path.replace_extension(".idx"); }
fs::path temporary(const fs::path& path) { return with(path, ".tmp"); }
fs::path mask_of(const fs::path& path) { return with(path, ".loss"); }

std::size_t width_for(TokenFormat format, std::int64_t vocabulary) {
    const std::int64_t narrow = format == TokenFormat::megatron ? 65499 : 65536;
    return vocabulary <= narrow ? 2 : 4;
}

void rename_from_temporary(const fs::path& path) {
    std::error_code error;
    fs::rename(temporary(path), path, error);
    check(!error, "{}: cannot rename from {}: {}", path.string(), temporary(path).string(),
          error.message());
}

template <class T>
void put(std::string& bytes, T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

TokenFileWriter::TokenFileWriter(const fs::path& path, std::int64_t vocabulary, TokenFileForm form)
    : path_(path),
      vocabulary_(vocabulary),
      form_(form),
      width_(width_for(form.format, vocabulary)),
      file_(temporary(path)) {
    check(form_.format == TokenFormat::llmc ||
              (form_.format == TokenFormat::megatron && path.extension() == ".bin"),
          "{}: expected llm.c's format, or Megatron's and a name that ends in .bin", path.string());
    if (form_.mask) mask_.emplace(temporary(mask_of(path_)));
    buffer_.reserve(kBufferBytes);
    // The header stays zero until `close`: whatever is cut short has no magic.
    if (form_.format == TokenFormat::llmc) buffer_.resize(kLlmcHeader);
}

TokenFileWriter::~TokenFileWriter() {
    if (closed_) return;
    std::error_code ignored;
    for (const fs::path& path : {path_, index_of(path_), mask_of(path_)}) {
        fs::remove(temporary(path), ignored);
    }
}

void TokenFileWriter::write(std::span<const std::int32_t> tokens,
                            std::span<const std::uint8_t> learn) {
    const auto n = static_cast<std::int64_t>(tokens.size());
    if (form_.format == TokenFormat::llmc) {
        check(n <= kMaxTokens - size_,
              "{}: an llm.c token file holds fewer than 2^31 tokens\n"
              "  Write Megatron's form (--to megatron), or split the input.",
              path_.c_str());
    } else {
        check(n <= kMaxTokens, "{}: a document of {} tokens is longer than the 2^31 - 1 allowed",
              path_.c_str(), n);
    }
    check(learn.empty() || (mask_ && learn.size() == tokens.size()),
          "{}: expected a mask for each of {} tokens, got {}", path_.c_str(), mask_ ? n : 0,
          learn.size());
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
    append(tokens);
    if (form_.format == TokenFormat::megatron && n > 0) {
        lengths_.push_back(static_cast<std::int32_t>(n));
    }
    if (mask_ && learn.empty()) {
        mask_->write(std::string(tokens.size(), '\1'));
    } else if (mask_) {
        mask_->write(std::as_bytes(learn));
    }
}

void TokenFileWriter::append(std::span<const std::int32_t> tokens) {
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

// Fills in the header of the finished file and syncs it.
void TokenFileWriter::write_header() const {
    std::array<std::int32_t, kLlmcHeader / 4> header{};
    header[0] = width_ == 2 ? 20240520 : 20240801;
    header[1] = width_ == 2 ? 1 : 7;
    header[2] = static_cast<std::int32_t>(size_);
    const int fd = open(temporary(path_).c_str(), O_WRONLY | O_CLOEXEC);
    const bool written =
        fd >= 0 && pwrite(fd, header.data(), sizeof header, 0) == sizeof header && fsync(fd) == 0;
    const int error = errno;
    if (fd >= 0) ::close(fd);
    check(written, "{}: cannot write the header: {}", path_.string(), std::strerror(error));
}

void TokenFileWriter::write_index() const {
    FileWriter file(temporary(index_of(path_)));
    std::string bytes("MMIDIDX\0\0", 9);
    const auto put_all = [&](auto next) {
        for (const std::int32_t length : lengths_) {
            next(length);
            if (bytes.size() < kBufferBytes) continue;
            file.write(bytes);
            bytes.clear();
        }
    };
    put(bytes, std::uint64_t{1});
    put(bytes, static_cast<std::uint8_t>(width_ == 2 ? 8 : 4));
    put(bytes, std::uint64_t{lengths_.size()});
    put(bytes, std::uint64_t{lengths_.size() + 1});
    put_all([&](std::int32_t length) { put(bytes, length); });
    std::int64_t offset = 0, document = 0;
    put_all([&](std::int32_t length) {
        put(bytes, offset);
        offset += length * static_cast<std::int64_t>(width_);
    });
    put_all([&](std::int32_t) { put(bytes, document++); });
    put(bytes, document);
    file.write(bytes);
    file.close();
}

void TokenFileWriter::close() {
    check(size_ > 0, "{}: there are no tokens to write", path_.string());
    flush();
    file_.close();
    if (mask_) mask_->close();
    const bool indexed = form_.format == TokenFormat::megatron;
    indexed ? write_index() : write_header();
    // An index or a mask of earlier tokens would be taken for these ones', and tokens without their
    // mask would be learned: they come last.
    fs::remove(path_);
    if (path_.extension() == ".bin") fs::remove(index_of(path_));
    fs::remove(mask_of(path_));
    if (mask_) rename_from_temporary(mask_of(path_));
    if (indexed) rename_from_temporary(index_of(path_));
    rename_from_temporary(path_);
    closed_ = true;
    sync_directory(path_.parent_path());
}

}  // namespace octavo
