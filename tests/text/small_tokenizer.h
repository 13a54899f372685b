// A tokenizer.json to change for a test, and the fixtures' tokenizers.
#pragma once

#include <zstd.h>

#include <nlohmann/json.hpp>
#include <string>

#include "io/scratch.h"
#include "text/byte_level.h"
#include "text/tokenizer_json.h"

namespace octavo {

inline nlohmann::json added_json(const std::string& content, int id) {
    return {{"content", content},  {"id", id},        {"special", true},
            {"lstrip", false},     {"rstrip", false}, {"normalized", false},
            {"single_word", false}};
}

// The 256 bytes as ids 0 to 255 by value; "he" 256, "ll" 257, "hell" 258; <|endoftext|> 259.
inline nlohmann::json small_tokenizer() {
    nlohmann::json vocab;
    for (int byte = 0; byte < 256; ++byte) {
        const char c = static_cast<char>(byte);
        vocab[spelling_of_bytes({&c, 1})] = byte;
    }
    vocab["he"] = 256;
    vocab["ll"] = 257;
    vocab["hell"] = 258;
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"normalizer", nullptr},
            {"pre_tokenizer",
             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
            {"post_processor", nullptr},
            {"decoder", {{"type", "ByteLevel"}}},
            {"added_tokens", {added_json("<|endoftext|>", 259)}},
            {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h e", "l l", "he ll"}}}}};
}

inline std::shared_ptr<const BpeTokenizer> tokenizer_of(const nlohmann::json& json) {
    return std::make_shared<BpeTokenizer>(parse_tokenizer_json(json.dump()), "test");
}

inline std::filesystem::path tokenizer_fixture(const std::string& name) {
    return std::filesystem::path(OCTAVO_FIXTURES) / "tokenizers" / name;
}

inline std::string fixture_json(const std::string& name) {
    const std::string packed = Scratch::read(tokenizer_fixture(name) / "tokenizer.json.zst");
    std::string json(ZSTD_getFrameContentSize(packed.data(), packed.size()), '\0');
    EXPECT_EQ(ZSTD_decompress(json.data(), json.size(), packed.data(), packed.size()), json.size());
    return json;
}

}  // namespace octavo
