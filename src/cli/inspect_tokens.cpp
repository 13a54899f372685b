#include "cli/inspect_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "io/token_file.h"
#include "io/tokens_info.h"

namespace octavo {
namespace {

std::uint32_t largest_id(const TokenFile& file) {
    std::uint32_t largest = 0;
    for (std::int64_t i = 0; i < file.size(); ++i) largest = std::max(largest, file[i]);
    return largest;
}

void describe_documents(const TokenFile& file) {
    const DocumentIndex* index = file.documents();
    if (!index) return;
    std::int64_t longest = 0, begin = 0;
    for (std::int64_t i = 0; i < index->documents(); ++i) {
        longest = std::max(longest, index->end(i) - begin);
        begin = index->end(i);
    }
    fmt::print("  documents     {}, the longest of {} tokens\n", index->documents(), longest);
}

void describe_mask(const TokenFile& file) {
    if (!file.has_mask()) return;
    std::int64_t learned = 0;
    for (std::int64_t i = 0; i < file.size(); ++i) learned += file.learns(i);
    fmt::print("  loss mask     {} tokens are learned, {:.1f} %\n", learned,
               100 * static_cast<double>(learned) / static_cast<double>(file.size()));
}

// A masked token is in brackets.
void show(const TokenFile& file, std::int64_t n) {
    if (n == 0) return;
    std::string line;
    for (std::int64_t i = 0; i < std::min(n, file.size()); ++i) {
        line += file.learns(i) ? fmt::format(" {}", file[i]) : fmt::format(" ({})", file[i]);
    }
    fmt::print("  first        {}\n", line);
}

int inspect_tokens(const Args& args) {
    const std::int64_t vocabulary = args.flag<std::int64_t>("vocabulary");
    for (const std::string& path : args.operands()) {
        const TokenFile file(path, vocabulary);
        // Its own largest id leaves only the mask to be wrong.
        const std::uint32_t largest = largest_id(file);
        file.check_contents(vocabulary > 0 ? vocabulary : std::int64_t{largest} + 1);
        fmt::print("{}\n  form          {}, {} bytes a token\n  tokens        {}\n", path,
                   name(file.format()), file.token_bytes(), file.size());
        fmt::print("  largest id    {}\n", largest);
        describe_documents(file);
        describe_mask(file);
        const TokensInfo info = tokens_info(path);
        if (!info.tokenizer.empty()) {
            fmt::print("  tokenizer     {} ({})\n", info.tokenizer, info.fingerprint);
        }
        show(file, args.flag<std::int64_t>("show"));
    }
    return 0;
}

}  // namespace

Verb inspect_tokens_verb() {
    return {.name = "tokens",
            .help = "What is in token files: their form, documents, loss mask, largest id.",
            .run = inspect_tokens,
            .operands = {.name = "FILE", .min = 1, .max = 1 << 20},
            .flags = {{.name = "vocabulary",
                       .initial = std::int64_t{0},
                       .help = "complain about ids that are not below it; 0: do not",
                       .rule = between(0, 1 << 24)},
                      {.name = "show",
                       .initial = std::int64_t{0},
                       .help = "so many of the first ids, those that are not learned in brackets",
                       .rule = between(0, 1 << 20)}}};
}

}  // namespace octavo
