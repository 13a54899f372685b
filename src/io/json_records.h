// Lines of JSON as examples to learn from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"

namespace octavo {

// {"messages": [{"role": "user", "content": "..."}, ...]}, the list under the name `column`. With
// Qwen3's template, the assistant's messages may have reasoning_content. What else a message has
// would be lost, and is refused (unless it is null); so are tools. Throws Error with the reason
// (the caller knows file and line).
std::vector<Message> json_chat(std::string_view line, const std::string& column = "messages");

}  // namespace octavo
