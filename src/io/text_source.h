// Text files as a sequence of documents, the unit that training and held-out text are split by.
//
// Formats, each plain or zstd-compressed:
//
//   jsonl  one JSON object a line; the document is one of its string fields. Blank lines are
//   skipped. text   any bytes. A line that is exactly `separator` ends a document. A file without
//   such lines
//          is cut into blocks instead: at the first blank line after `block` bytes (4 KiB to 64
//          KiB, a 256th of the file in between), or failing that at the first line end, or in the
//          middle of a line, after four times as many. What comes before the first separator of a
//          file is cut as well if it is longer than a block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "io/input_file.h"

namespace octavo {

enum class TextFormat {
    automatic,  // jsonl for .jsonl, .ndjson and .json (and .zst of them), else text
    text,
    jsonl,
};

struct TextOptions {
    TextFormat format = TextFormat::automatic;
    std::string column = "text";                     // jsonl
    std::string separator = "<|endoftext|>";         // text; empty: always blocks
    std::size_t max_bytes = std::size_t{256} << 20;  // a longer line or document is an Error
};

// Throws Error naming the file and, for jsonl, the line.
class TextSource {
  public:
    explicit TextSource(const std::filesystem::path& path, const TextOptions& options = {});

    // The next document that is not empty; false at the end.
    bool next(std::string& document);

    // The next document, which may be empty, as it stands in the file: in jsonl the whole line, for
    // `extract`. Reading is one thread's work, to take lines apart is many threads'.
    struct Raw {
        std::string text;
        std::int64_t line = 0;  // in the file, from 1
    };
    bool next_raw(Raw&);
    // Makes the line of a jsonl file its document; leaves that of a text file. Throws Error with
    // the reason alone.
    static void extract(Raw&, const TextOptions&);

    const TextOptions& options() const { return options_; }  // the format is never automatic
    std::int64_t empty_documents() const { return empty_documents_; }
    const InputFile& file() const { return lines_.file(); }

  private:
    bool next_line(std::string& line);
    bool next_block(std::string& document);

    TextOptions options_;
    LineReader lines_;
    std::size_t block_ = 0;
    std::int64_t empty_documents_ = 0;
    bool separated_ = false;  // a separator was seen: blocks are no longer cut
    bool at_line_begin_ = true;
};

}  // namespace octavo
