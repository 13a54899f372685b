// The little JSON that text files need.
#pragma once

#include <string>
#include <string_view>

namespace octavo {

// The string in field `column` of the JSON object in `line`. Throws Error with the reason (the
// caller knows file and line): not JSON, not an object, no such field, repeated, or not a string.
std::string json_text_field(std::string_view line, const std::string& column);

// `text` as a JSON string, quotes included. Bytes that are not UTF-8 become U+FFFD.
std::string json_quote(std::string_view text);

}  // namespace octavo
