// Writes token files of llm.c's form, and of Megatron's, which knows documents and has no limit
// (io/token_file.h, io/document_index.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "base/file.h"
#include "io/token_file.h"

namespace octavo {

struct TokenFileForm {
    TokenFormat format = TokenFormat::llmc;  // or megatron
    bool mask = false;                       // with a loss mask beside it, FILE.loss
};

// Everything goes to files with .tmp after their names; `close` completes, syncs and renames them,
// and removes an index or mask that an earlier file of the name had. Without `close` nothing is
// left.
class TokenFileWriter {
  public:
    // Tokens take two bytes if the vocabulary allows it by the format's rule, else four.
    TokenFileWriter(const std::filesystem::path& path, std::int64_t vocabulary,
                    TokenFileForm form = {});
    ~TokenFileWriter();
    TokenFileWriter(const TokenFileWriter&) = delete;
    TokenFileWriter& operator=(const TokenFileWriter&) = delete;

    // One document; none if there are no tokens. `learn`, only with a mask: 0 or 1 for each token;
    // empty: all 1. Throws Error for ids outside the vocabulary, and past the 2^31 - 1 tokens of
    // llm.c's format or of one document.
    void write(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> learn = {});
    void close();  // throws Error if there were no tokens

    std::int64_t size() const { return size_; }

  private:
    void append(std::span<const std::int32_t> tokens);
    void flush();
    void write_header() const;
    void write_index() const;

    std::filesystem::path path_;
    std::int64_t vocabulary_;
    TokenFileForm form_;
    std::size_t width_;
    FileWriter file_;
    std::optional<FileWriter> mask_;
    std::vector<std::byte> buffer_;
    std::vector<std::int32_t> lengths_;  // of the documents, for the index
    std::int64_t size_ = 0;
    bool closed_ = false;
};

}  // namespace octavo
