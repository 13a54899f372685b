// JSON lines of texts to JSON lines of token ids, and back: a line out for every line in, on all
// threads. Throws Error naming file and line.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace octavo {

// Gets a line, with its line break.
using WriteLine = std::function<void(std::string_view)>;

// {"text": "..."} to {"ids": [...]}, on all threads; `column` is the name of the first. Throws
// Error naming file and line.
void encode_lines(const std::filesystem::path& file, const std::string& column, const Tokenizer&,
                  const WriteLine&);

// Lines of json_chat (io/json_records.h), whose messages are in the field `column`, to {"ids":
// [...], "learn": [...]}: for each id 1 if it is the assistant's, else 0. Throws Error as well if
// the tokenizer is not the template's.
void encode_chats(const std::filesystem::path& file, const std::string& column, const ChatTemplate&,
                  const Tokenizer&, const WriteLine&);

// {"ids": [...]} to {"text": "..."}. Bytes that are not UTF-8 become U+FFFD.
void decode_lines(const std::filesystem::path& file, const Tokenizer&, const WriteLine&);

}  // namespace octavo
