// JSON lines of texts to JSON lines of token ids, and back: a line out for every line in.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace octavo {

// Gets a line, with its line break.
using WriteLine = std::function<void(std::string_view)>;

// {"text": "..."} to {"ids": [...]}, on all threads; `column` is the name of the first. Throws
// Error naming file and line.
void encode_lines(const std::filesystem::path& file, const std::string& column, const Tokenizer&,
                  const WriteLine&);

// {"ids": [...]} to {"text": "..."}. Bytes that are not UTF-8 become U+FFFD.
void decode_lines(const std::filesystem::path& file, const Tokenizer&, const WriteLine&);

}  // namespace octavo
