// Where the documents of a token file end, as an index file beside it says. The index stays mapped:
// it may have an entry for each of a billion documents.
//
// Megatron's .idx (its core/datasets/indexed_dataset.py), little-endian and unaligned:
//
//     "MMIDIDX\0\0", u64 version 1, u8 dtype (8: u16 tokens, 4: i32), u64 sequences,
//     u64 documents + 1, i32 length of each sequence in tokens, i64 its offset in the .bin in
//     bytes, i64 first sequence of each document and the number of sequences, perhaps i8 modes
//
// datatrove's .ds.index: u64 end of each document, in tokens.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/file.h"

namespace octavo {

class DocumentIndex {
  public:
    // Check all of the index, and throw Error naming it and what is wrong.
    static DocumentIndex megatron(const std::filesystem::path& idx);
    static DocumentIndex datatrove(const std::filesystem::path& index);

    std::int64_t documents() const { return documents_; }
    std::int64_t tokens() const { return tokens_; }     // in all
    std::size_t token_bytes() const { return width_; }  // 0: the index does not say
    // The token after the last of document i in [0, documents()).
    std::int64_t end(std::int64_t i) const;
    // The document that has token `at` in [0, tokens()).
    std::int64_t document_of(std::int64_t at) const;

  private:
    explicit DocumentIndex(const std::filesystem::path& path) : file_(path) {}

    MappedFile file_;
    std::int64_t documents_ = 0, tokens_ = 0, sequences_ = 0;
    std::size_t width_ = 0;
    std::size_t lengths_ = 0, offsets_ = 0, bounds_ = 0;  // bytes into the file
};

}  // namespace octavo
