// octavo tokenize: text and JSON lines to token files, or to ids and back; new tokenizers from
// text.
#include "io/tokenize.h"

#include <fmt/core.h>

#include <filesystem>

#include "base/file.h"
#include "base/parallel.h"
#include "cli/console.h"
#include "cli/verbs.h"
#include "io/token_lines.h"
#include "report/console.h"
#include "text/split_pattern.h"
#include "text/tokenizer_folder.h"
#include "text/tokenizer_json.h"
#include "text/train_bpe.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBytes = "byte";

TextOptions text_options(const Args& args) {
    const auto& format = args.flag<std::string>("format");
    return {.format = format == "text"    ? TextFormat::text
                      : format == "jsonl" ? TextFormat::jsonl
                                          : TextFormat::automatic,
            .column = args.flag<std::string>("column"),
            .separator = args.flag<std::string>("separator")};
}

std::vector<fs::path> inputs(const Args& args) {
    std::vector<fs::path> paths;
    for (const std::string& word : args.operands()) {
        paths.emplace_back(word == "-" ? "/dev/stdin" : word);
    }
    return paths;
}

fs::path output(const Args& args, const char* of) {
    const auto& out = args.flag<std::string>("out");
    if (out.empty()) fail_usage("tokenize: expected --out, the folder for {}", of);
    return out;
}

std::shared_ptr<const Tokenizer> tokenizer(const Args& args) {
    const auto& name = args.flag<std::string>("tokenizer");
    const auto& end_of_text = args.flag<std::string>("end-of-text");
    if (name != kBytes) return load_tokenizer(name, end_of_text);
    if (!end_of_text.empty()) fail_usage("--end-of-text: the byte tokenizer has its own");
    return std::make_shared<ByteTokenizer>();
}

// Of the folder that has the tokenizer.
ChatTemplate chat_template(const Args& args) {
    fs::path folder = args.flag<std::string>("tokenizer");
    if (folder == kBytes)
        fail_usage("--chat: expected a --tokenizer with a chat template, got bytes");
    if (!fs::is_directory(folder)) folder = fs::absolute(folder).parent_path();
    const auto found = read_chat_template(folder);
    if (!found) fail("{}: expected a chat template in tokenizer_config.json", folder.string());
    return *found;
}

// On a terminal, a line that says how far it is.
class Progress {
  public:
    explicit Progress(const char* what) : what_(what) {}
    ~Progress() { erase(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void show(std::int64_t done, std::int64_t total) {
        if (!live_) return;
        fmt::print("{}{}", kEraseLine, progress_line(what_, done, total, 78));
        std::fflush(stdout);
        shown_ = true;
    }
    void erase() {
        if (std::exchange(shown_, false)) fmt::print("{}", kEraseLine);
    }

  private:
    const char* what_;
    bool live_ = is_terminal(stdout), shown_ = false;
};

int make_token_files(const Args& args) {
    TokenizeOptions options;
    options.inputs = inputs(args);
    options.output = output(args, "the token files");
    options.held_out = args.flag<double>("held-out");
    options.seed = static_cast<std::uint64_t>(args.flag<std::int64_t>("seed"));
    options.text = text_options(args);
    options.format =
        args.flag<std::string>("to") == "llmc" ? TokenFormat::llmc : TokenFormat::megatron;
    options.shard_tokens = args.flag<std::int64_t>("shard-tokens");
    options.tokenizer = tokenizer(args);
    options.prompt = args.flag<std::string>("prompt");
    options.completion = args.flag<std::string>("completion");
    options.messages = args.flag<std::string>("messages");
    if (args.flag<bool>("pairs")) options.records = Records::pairs;
    if (args.flag<bool>("chat")) {
        options.records = Records::chats;
        options.chat = chat_template(args);
    }
    if (const fs::path path = args.flag<std::string>("tokenizer"); path != kBytes) {
        if (fs::is_directory(path)) {
            options.tokenizer_files = read_tokenizer_files(path);
        } else if (path.filename() == "tokenizer.json") {
            options.tokenizer_files = read_tokenizer_files(fs::absolute(path).parent_path());
        } else {
            options.tokenizer_files = {{"tokenizer.json", read_file(path)}};
        }
    }
    Progress progress("tokenizing");
    const TokenizeReport report = tokenize(
        options, [&](const TokenizeProgress& p) { progress.show(p.bytes, p.bytes_total); });
    progress.erase();
    const auto line = [&](const char* split, const SplitCount& count) {
        fmt::print("{:<24} {:>12} tokens in {} documents",
                   (options.output / token_file_name(options, split)).string(), count.tokens,
                   count.documents);
        if (options.records != Records::texts) fmt::print(", {} to learn", count.learned);
        fmt::print("\n");
    };
    line("train", report.train);
    if (report.held_out.documents > 0) line("held_out", report.held_out);
    if (report.taken_over > 0)
        fmt::print("{} documents of them were there, from a call that was interrupted\n",
                   report.taken_over);
    if (report.empty_documents > 0)
        fmt::print("{} empty documents skipped\n", report.empty_documents);
    return 0;
}

int convert_lines(const Args& args, bool encode) {
    if (!args.flag<std::string>("out").empty()) {
        fail_usage("tokenize: --{} writes to the standard output, --out is for token files",
                   encode ? "encode" : "decode");
    }
    const auto t = tokenizer(args);
    std::optional<ChatTemplate> chats;
    if (args.flag<bool>("chat")) chats = chat_template(args);
    const auto write = [](std::string_view line) {
        std::fwrite(line.data(), 1, line.size(), stdout);
    };
    for (const fs::path& path : inputs(args)) {
        if (encode && chats) {
            encode_chats(path, args.flag<std::string>("messages"), *chats, *t, write);
        } else if (encode) {
            encode_lines(path, args.flag<std::string>("column"), *t, write);
        } else {
            decode_lines(path, *t, write);
        }
    }
    return 0;
}

std::string_view pattern_named(const std::string& name) {
    if (name == "gpt2") return kGpt2Pattern;
    return name == "llama3" ? kLlama3Pattern : kQwenPattern;
}

int train_tokenizer(const Args& args, std::int64_t vocabulary) {
    const fs::path out = output(args, "tokenizer.json");
    if (args.flag<std::string>("tokenizer") != kBytes) {
        fail_usage("tokenize: --train-bpe makes a tokenizer, --tokenizer takes one");
    }
    BpeTraining training{.vocabulary = static_cast<std::int32_t>(vocabulary),
                         .pattern = std::string(pattern_named(args.flag<std::string>("pattern")))};
    if (const auto& name = args.flag<std::string>("end-of-text"); !name.empty()) {
        training.special = {name};
    }
    const auto& more = args.flag<std::vector<std::string>>("special");
    training.special.insert(training.special.end(), more.begin(), more.end());
    BpeTrainer trainer(training);
    const fs::path file = out / "tokenizer.json";
    check(!fs::exists(file),
          "{}: exists already, and --train-bpe replaces no tokenizer\n"
          "  Name another --out, or move the file away.",
          file.string());

    constexpr std::size_t kBatchBytes = std::size_t{1} << 20;  // for each thread
    const std::size_t batch_bytes = kBatchBytes * static_cast<std::size_t>(thread_count());
    std::int64_t total = 0, done = 0;
    for (const fs::path& path : inputs(args)) total += InputFile(path).bytes_total();
    Progress progress("reading");
    for (const fs::path& path : inputs(args)) {
        TextSource source(path, text_options(args));
        std::vector<std::string> batch;
        std::size_t bytes = 0;
        for (std::string document; source.next(document);) {
            bytes += document.size();
            batch.emplace_back().swap(document);
            if (bytes < batch_bytes) continue;
            trainer.add(batch);
            batch.clear();
            bytes = 0;
            progress.show(done + source.file().bytes_read(), total);
        }
        trainer.add(batch);
        done += source.file().bytes_read();
    }
    progress.erase();
    Progress merging("merging");
    const BpeSpec spec =
        trainer.train([&](std::int64_t merges, std::int64_t all) { merging.show(merges, all); });
    merging.erase();
    fs::create_directories(out);
    write_file_atomically(file, to_tokenizer_json(spec));
    fmt::print("{}  {} tokens\n", file.string(), spec.tokens.size());
    if (std::ssize(spec.tokens) < vocabulary) {
        fmt::print("no pair is left that occurs twice: {} tokens fewer than asked for\n",
                   vocabulary - std::ssize(spec.tokens));
    }
    return 0;
}

int run_tokenize(const Args& args) {
    const bool encode = args.flag<bool>("encode"), decode = args.flag<bool>("decode");
    const auto vocabulary = args.flag<std::int64_t>("train-bpe");
    if (encode + decode + (vocabulary > 0) > 1) {
        fail_usage("tokenize: expected one of --encode, --decode and --train-bpe");
    }
    const bool chat = args.flag<bool>("chat"), pairs = args.flag<bool>("pairs");
    if (chat && (decode || vocabulary > 0)) {
        fail_usage("tokenize: --chat goes with --encode, or makes token files");
    }
    if (pairs && (chat || encode || decode || vocabulary > 0)) {
        fail_usage("tokenize: --pairs makes token files; it does not go with another of the kind");
    }
    if (vocabulary > 0) return train_tokenizer(args, vocabulary);
    return encode || decode ? convert_lines(args, encode) : make_token_files(args);
}

}  // namespace

Verb tokenize_verb() {
    return {
        .name = "tokenize",
        .help = "Turns text or JSON lines (or zstd of them) into token files or ids; trains BPEs.",
        .run = run_tokenize,
        .operands = {.name = "FILE", .min = 1, .max = 1 << 20},
        .flags = {
            {.name = "out",
             .initial = std::string(),
             .help = "folder for train.bin, held_out.bin, what goes with them and tokens.json, or "
                     "for --train-bpe's tokenizer.json"},
            {.name = "tokenizer",
             .initial = std::string(kBytes),
             .help = "'byte', a tokenizer.json, or a folder with one"},
            {.name = "end-of-text",
             .initial = std::string(),
             .help = "token that ends documents; by default the tokenizer's "
                     "<|endoftext|>, <|end_of_text|> or the like"},
            {.name = "encode",
             .initial = false,
             .help = "print {\"ids\": [...]} for every JSON line with a text"},
            {.name = "chat",
             .initial = false,
             .help = "lines have messages, which the tokenizer's chat template joins; what the "
                     "assistant says is learned (--encode prints which ids those are)"},
            {.name = "pairs",
             .initial = false,
             .help = "lines have a prompt and its completion, which alone is learned"},
            {.name = "decode",
             .initial = false,
             .help = "print {\"text\": \"...\"} for every JSON line with ids"},
            {.name = "train-bpe",
             .initial = std::int64_t{0},
             .help = "train a byte-level BPE with so many tokens instead; 0: do not",
             .rule = between(0, 1 << 22)},
            {.name = "pattern",
             .initial = std::string("llama3"),
             .help = "how --train-bpe splits words, numbers and spaces",
             .rule = one_of({"gpt2", "llama3", "qwen"})},
            {.name = "special",
             .initial = std::vector<std::string>(),
             .help = "more special tokens for --train-bpe"},
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
            {.name = "messages",
             .initial = std::string("messages"),
             .help = "field of the JSON lines that holds --chat's messages"},
            {.name = "prompt",
             .initial = std::string("prompt"),
             .help = "field of the JSON lines that holds --pairs' prompt"},
            {.name = "completion",
             .initial = std::string("completion"),
             .help = "field of the JSON lines that holds --pairs' completion"},
            {.name = "to",
             .initial = std::string("megatron"),
             .help = "form of the token files; Megatron's keeps where documents end",
             .rule = one_of({"megatron", "llmc"})},
            {.name = "shard-tokens",
             .initial = std::int64_t{0},
             .help =
                 "begin another token file, train_00001.bin and so on, after so many; 0: one file",
             .rule = at_least(0)},
            {.name = "separator",
             .initial = std::string("<|endoftext|>"),
             .help = "line that ends a document in text files"}}};
}

}  // namespace octavo
