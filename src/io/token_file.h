// Token files in the two formats of llm.c (its dev/data/data_common.py): a header of 256 int32,
// [0] magic, [1] version, [2] number of tokens, then the tokens, all little-endian.
//
//     version 1, magic 20240520: uint16 tokens
//     version 7, magic 20240801: uint32 tokens (Llama 3)
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/file.h"

namespace octavo {

// A token file, mapped. The constructor checks the header against the file's size and throws Error
// if they disagree or the file holds no tokens; the ids are checked by `check_vocabulary`.
class TokenFile {
  public:
    explicit TokenFile(const std::filesystem::path& path);

    const std::filesystem::path& path() const { return file_.path(); }
    std::int64_t size() const { return size_; }         // in tokens
    std::size_t token_bytes() const { return width_; }  // 2 or 4

    // `i` in [0, size()).
    std::uint32_t operator[](std::int64_t i) const { return width_ == 2 ? narrow()[i] : wide()[i]; }

    // Tokens [begin, begin + out.size()); throws Error if the range leaves the file.
    void read(std::int64_t begin, std::span<std::int32_t> out) const;

    // Reads the whole file, on all threads, and throws Error naming the first id that is not below
    // `vocabulary`.
    void check_vocabulary(std::int64_t vocabulary) const;

  private:
    const std::uint16_t* narrow() const { return reinterpret_cast<const std::uint16_t*>(data()); }
    const std::uint32_t* wide() const { return reinterpret_cast<const std::uint32_t*>(data()); }
    const std::byte* data() const;

    MappedFile file_;
    std::int64_t size_ = 0;
    std::size_t width_ = 0;
};

// Writes a token file: version 1 if `vocabulary` fits in uint16, else version 7. The tokens go to
// `path`.tmp; `close` completes the header, syncs and renames. Without `close` nothing is left.
class TokenFileWriter {
  public:
    TokenFileWriter(const std::filesystem::path& path, std::int64_t vocabulary);
    ~TokenFileWriter();
    TokenFileWriter(const TokenFileWriter&) = delete;
    TokenFileWriter& operator=(const TokenFileWriter&) = delete;

    // Throws Error for ids outside the vocabulary and past the 2^31 - 1 tokens of the format.
    void write(std::span<const std::int32_t> tokens);
    void close();  // throws Error if there were no tokens

    std::int64_t size() const { return size_; }

  private:
    void flush();

    std::filesystem::path path_, beside_;
    std::int64_t vocabulary_;
    std::size_t width_;
    FileWriter file_;
    std::vector<std::byte> buffer_;
    std::int64_t size_ = 0;
    bool closed_ = false;
};

}  // namespace octavo
