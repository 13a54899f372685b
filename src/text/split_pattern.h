// The regular expressions of tokenizer.json files, which are Oniguruma's (Ruby syntax), in the
// syntax of PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace octavo {

// The three that nearly all byte-level tokenizers use.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Takes what means the same in both, or can be said in PCRE2's words: literals, classes of
// characters, \s \S \d \p{..} \P{..}, groups, (?i: ), lookahead, alternatives and repetition.
// Throws Error naming anything else, and patterns longer than 4096 bytes.
std::string pcre2_pattern(std::string_view oniguruma);

}  // namespace octavo
