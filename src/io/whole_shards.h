// What an interrupted call of `tokenize` leaves for the next one: which shards of its outputs are
// whole, in the output folder's tokens.part.json. A call without shards leaves nothing.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/tokenize.h"

namespace octavo {

struct WholeShards {
    std::string call;  // all that decides what goes into them, by describe_call
    std::vector<SplitCount> train, held_out;

    bool operator==(const WholeShards&) const = default;
};

// Options, tokenizer, and the inputs with their sizes and times. The same text is the same result.
std::string describe_call(const TokenizeOptions&);

// Nothing if there is none, or one that cannot be read: then the call begins anew.
std::optional<WholeShards> read_whole_shards(const std::filesystem::path& folder);
void write_whole_shards(const std::filesystem::path& folder, const WholeShards&);
void remove_whole_shards(const std::filesystem::path& folder);

}  // namespace octavo
