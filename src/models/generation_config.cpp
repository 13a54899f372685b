#include "models/generation_config.h"

#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "models/architecture.h"
#include "text/json_reader.h"

namespace octavo {

std::vector<std::int32_t> read_eos_tokens(const std::filesystem::path& folder) {
    const std::filesystem::path file = folder / "generation_config.json";
    if (!std::filesystem::exists(file)) return {};
    nlohmann::json json;
    try {
        json = read_json(read_file(file, kLongestConfig));
    } catch (const Error& error) {
        throw error.in(file.string());
    }
    std::vector<std::int32_t> tokens;
    const auto add = [&](const nlohmann::json& id) {
        const bool fits =
            id.is_number_integer() && id >= 0 && id <= std::numeric_limits<std::int32_t>::max();
        check(fits, "{}: expected eos_token_id as a token id or a list of them, got {}",
              file.string(),
              id.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 80));
        tokens.push_back(id.get<std::int32_t>());
    };
    const auto found = json.find("eos_token_id");
    if (found == json.end() || found->is_null()) return tokens;
    if (!found->is_array()) {
        add(*found);
    } else {
        for (const auto& id : *found) add(id);
    }
    return tokens;
}

}  // namespace octavo
