// generation_config.json of a Hugging Face folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace octavo {

// eos_token_id, a token or a list of them, after any of which a text is over; none if the file or
// the entry is missing. Throws Error if it is something else.
std::vector<std::int32_t> read_eos_tokens(const std::filesystem::path& folder);

}  // namespace octavo
