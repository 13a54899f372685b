// What the server knows of its model beside the weights.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace octavo {

struct ServedModel {
    std::string name;
    std::shared_ptr<const Tokenizer> tokenizer;
    std::optional<ChatTemplate> chat = {};
    std::vector<std::int32_t> stop_tokens = {};  // after which a text is over
    bool after_end_of_text = false;  // prompts begin as texts did in training (prompt_ids)
    std::int64_t created = 0;        // unix time
};

}  // namespace octavo
