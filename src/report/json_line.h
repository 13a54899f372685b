// What the readers of metrics.jsonl and scales.jsonl ask of a line.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"

namespace octavo {

inline nlohmann::ordered_json parse_object(std::string_view text) {
    auto line = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    check(line.is_object(), "expected one JSON object, got {}",
          line.is_discarded() ? "text that is not JSON" : line.type_name());
    return line;
}

inline std::int64_t count(const nlohmann::ordered_json& line, const char* key) {
    const auto found = line.find(key);
    check(found != line.end(), "expected the key \"{}\", got none", key);
    const bool fits = found->is_number_integer() && *found >= 0 &&
                      *found <= std::numeric_limits<std::int64_t>::max();
    check(fits, "expected a count for \"{}\", got {}", key,
          found->dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return found->get<std::int64_t>();
}

}  // namespace octavo
