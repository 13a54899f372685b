// Token files of four programs, read as they are (docs/data.md). All numbers are little-endian.
//
//     llm.c      256 int32: [0] magic 20240520, [1] version 1, [2] tokens; then uint16 tokens; or
//                magic 20240801, version 7 and uint32 tokens
//     llmq       "BIN.TOK\n", int32 version 2, bytes a token 4, tokens, vocabulary, has mask;
//                padded to 1024 bytes; int32 tokens; then perhaps a bit for each token p, low bits
//                first, of whether token p + 1 is learned
//     Megatron   NAME.bin with nothing but tokens, and NAME.idx (io/document_index.h)
//     datatrove  NAME.ds with nothing but uint16 or uint32 tokens, and perhaps NAME.ds.index and
//                NAME.ds.metadata
//
// Any of them may have a loss mask beside it, in datatrove's form: FILE.loss, a byte for each
// token, 1 if it is learned as a target and 0 if not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "base/file.h"
#include "io/document_index.h"

namespace octavo {

enum class TokenFormat { llmc, llmq, megatron, datatrove };
std::string_view name(TokenFormat);

// A token file, mapped. The constructor knows Megatron's by the .idx, datatrove's by the .ds and
// the others by their first bytes. It checks headers, sizes and indices and throws Error if they
// disagree or the file holds no tokens; ids and masks are checked by `check_contents`.
class TokenFile {
  public:
    // `vocabulary` decides the width of a .ds file without index and metadata, as datatrove does.
    explicit TokenFile(const std::filesystem::path& path, std::int64_t vocabulary = 0);

    const std::filesystem::path& path() const { return file_.path(); }
    TokenFormat format() const { return format_; }
    std::int64_t size() const { return size_; }         // in tokens
    std::size_t token_bytes() const { return width_; }  // 2 or 4

    // `i` in [0, size()).
    std::uint32_t operator[](std::int64_t i) const { return width_ == 2 ? narrow()[i] : wide()[i]; }

    // Tokens [begin, begin + out.size()); throws Error if the range leaves the file.
    void read(std::int64_t begin, std::span<std::int32_t> out) const;

    bool has_mask() const { return mask_bits_ != 0 || loss_; }
    // Whether the model is to learn token i, as a target; without a mask, all of them.
    bool learns(std::int64_t i) const;

    // Where documents end, if the file's format says so.
    const DocumentIndex* documents() const { return documents_ ? &*documents_ : nullptr; }

    // Reads the whole file, on all threads, and throws Error naming the first id that is not below
    // `vocabulary`, or the first byte of a mask that is neither 0 nor 1.
    void check_contents(std::int64_t vocabulary) const;

  private:
    void open_llmc();
    void open_llmq();
    void open_megatron(const std::filesystem::path& idx);
    void open_datatrove(std::int64_t vocabulary);
    void check_size(std::size_t payload) const;
    const std::uint16_t* narrow() const { return reinterpret_cast<const std::uint16_t*>(data()); }
    const std::uint32_t* wide() const { return reinterpret_cast<const std::uint32_t*>(data()); }
    const std::byte* data() const { return file_.bytes().data() + offset_; }

    MappedFile file_;
    std::optional<DocumentIndex> documents_;
    std::optional<MappedFile> loss_;  // a byte for each token
    TokenFormat format_ = TokenFormat::llmc;
    std::int64_t size_ = 0;
    std::size_t width_ = 0;
    std::size_t offset_ = 0;     // of the first token in the file
    std::size_t mask_bits_ = 0;  // of llmq's mask in the file; 0: it has none
};

}  // namespace octavo
