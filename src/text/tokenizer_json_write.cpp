#include <nlohmann/json.hpp>

#include "text/byte_level.h"
#include "text/split_pattern.h"
#include "text/tokenizer_json.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

Json type_only(const char* type) { return {{"type", type}}; }

Json byte_level(bool use_regex) {
    return {{"type", "ByteLevel"},
            {"add_prefix_space", false},
            {"trim_offsets", false},
            {"use_regex", use_regex}};
}

}  // namespace

std::string to_tokenizer_json(const BpeSpec& spec) {
    std::vector<bool> is_added(spec.tokens.size());
    Json added = Json::array();
    for (const AddedToken& token : spec.added) {
        is_added[static_cast<std::size_t>(token.id)] = true;
        added.push_back({{"id", token.id},
                         {"content", token.content},
                         {"single_word", token.single_word},
                         {"lstrip", token.lstrip},
                         {"rstrip", token.rstrip},
                         {"normalized", token.normalized},
                         {"special", token.special}});
    }
    const bool gpt2 = spec.patterns.size() == 1 && spec.patterns[0] == kGpt2Pattern;
    Json splits = Json::array();
    for (const std::string& pattern : spec.patterns) {
        if (gpt2) break;
        splits.push_back({{"type", "Split"},
                          {"pattern", {{"Regex", pattern}}},
                          {"behavior", "Isolated"},
                          {"invert", false}});
    }
    splits.push_back(byte_level(gpt2));
    Json post = byte_level(false);
    if (!spec.begin.empty()) {
        Json single = Json::array(), pair, special = Json::object();
        for (const std::int32_t id : spec.begin) {
            const std::string& name = spec.tokens[static_cast<std::size_t>(id)];
            single.push_back({{"SpecialToken", {{"id", name}, {"type_id", 0}}}});
            special[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
        }
        single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
        pair = single;
        pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
        post = {{"type", "TemplateProcessing"},
                {"single", single},
                {"pair", pair},
                {"special_tokens", special}};
    }
    Json vocab = Json::object(), merges = Json::array();
    for (std::size_t id = 0; id < spec.tokens.size(); ++id) {
        if (!is_added[id] && !spec.tokens[id].empty()) {
            vocab[spelling_of_bytes(spec.tokens[id])] = id;
        }
    }
    const auto spelling = [&](std::int32_t id) {
        return spelling_of_bytes(spec.tokens[static_cast<std::size_t>(id)]);
    };
    for (const Merge& m : spec.merges) merges.push_back({spelling(m.left), spelling(m.right)});
    const Json root = {{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", added},
                       {"normalizer", spec.nfc ? type_only("NFC") : Json()},
                       {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", splits}}},
                       {"post_processor", post},
                       {"decoder", byte_level(false)},
                       {"model",
                        {{"type", "BPE"},
                         {"dropout", nullptr},
                         {"unk_token", nullptr},
                         {"continuing_subword_prefix", nullptr},
                         {"end_of_word_suffix", nullptr},
                         {"fuse_unk", false},
                         {"byte_fallback", false},
                         {"ignore_merges", spec.ignore_merges},
                         {"vocab", vocab},
                         {"merges", merges}}}};
    return root.dump(1, ' ') + "\n";
}

}  // namespace octavo
