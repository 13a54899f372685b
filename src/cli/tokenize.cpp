// octavo tokenize: text and JSON lines to token files.
#include "io/tokenize.h"

#include <fmt/core.h>

#include "cli/console.h"
#include "cli/verbs.h"
#include "io/byte_tokenizer.h"
#include "report/console.h"

namespace octavo {
namespace {

TextFormat format_named(const std::string& name) {
    if (name == "text") return TextFormat::text;
    if (name == "jsonl") return TextFormat::jsonl;
    return TextFormat::automatic;
}

int run_tokenize(const Args& args) {
    TokenizeOptions options;
    options.inputs.assign(args.operands().begin(), args.operands().end());
    options.output = args.flag<std::string>("out");
    options.held_out = args.flag<double>("held-out");
    options.seed = static_cast<std::uint64_t>(args.flag<std::int64_t>("seed"));
    options.text.format = format_named(args.flag<std::string>("format"));
    options.text.column = args.flag<std::string>("column");
    options.text.separator = args.flag<std::string>("separator");
    const bool live = is_terminal(stdout);
    const TokenizeReport report = tokenize(options, [&](const TokenizeProgress& p) {
        if (!live) return;
        fmt::print("{}{}", kEraseLine, progress_line("tokenizing", p.bytes, p.bytes_total, 78));
        std::fflush(stdout);
    });
    if (live) fmt::print("{}", kEraseLine);
    const auto line = [&](const char* file, const SplitCount& count) {
        fmt::print("{:<24} {:>12} tokens in {} documents\n", (options.output / file).string(),
                   count.tokens, count.documents);
    };
    line("train.bin", report.train);
    if (report.held_out.documents > 0) line("held_out.bin", report.held_out);
    if (report.empty_documents > 0)
        fmt::print("{} empty documents skipped\n", report.empty_documents);
    return 0;
}

}  // namespace

Verb tokenize_verb() {
    return {.name = "tokenize",
            .help = "Turns text or JSON lines (or zstd of them) into token files.",
            .run = run_tokenize,
            .operands = {.name = "FILE", .min = 1, .max = 1 << 20},
            .flags = {{.name = "out",
                       .initial = std::string(),
                       .help = "folder for train.bin, held_out.bin and tokens.json",
                       .required = true},
                      {.name = "held-out",
                       .initial = 0.01,
                       .help = "share of the documents held out",
                       .rule = between_below(0, 1)},
                      {.name = "seed",
                       .initial = std::int64_t{0},
                       .help = "decides which documents are held out",
                       .rule = at_least(0)},
                      {.name = "format",
                       .initial = std::string("auto"),
                       .help = "of the input files; auto goes by the name",
                       .rule = one_of({"auto", "text", "jsonl"})},
                      {.name = "column",
                       .initial = std::string("text"),
                       .help = "field of the JSON lines that holds the text"},
                      {.name = "separator",
                       .initial = std::string("<|endoftext|>"),
                       .help = "line that ends a document in text files"}}};
}

}  // namespace octavo
