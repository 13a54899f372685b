#include "io/tokenize.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "io/token_file.h"
#include "io/tokens_info.h"
#include "scratch.h"
#include "text/split_pattern.h"
#include "text/tokenizer_folder.h"
#include "text/tokenizer_json.h"
#include "text/train_bpe.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
    const TokenFile file(path);
    file.check_contents(ByteTokenizer::kVocabulary);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(file.size()));
    file.read(0, tokens);
    std::string text;
    for (const std::int32_t id : tokens) text += id == 256 ? '|' : static_cast<char>(id);
    return text;
}

std::string numbered(int documents) {
    std::string text;
    for (int i = 0; i < documents; ++i) text += fmt::format("doc{}\n<|endoftext|>\n", i);
    return text;
}

TEST(Tokenize, WritesBothSplitsAndTheirDescription) {
    const Scratch dir;
    TokenizeOptions options{
        .inputs = {dir.write("a.txt", numbered(1000)),
                   dir.write("b.jsonl", "{\"text\": \"jay\"}\n{\"text\": \"\"}\n")},
        .output = dir / "out/put",
        .held_out = 0.1};
    const TokenizeReport report = tokenize(options);
    EXPECT_EQ(report.train.documents + report.held_out.documents, 1001);
    EXPECT_NEAR(static_cast<double>(report.held_out.documents), 100, 35);
    EXPECT_EQ(report.empty_documents, 1);
    EXPECT_EQ(report.vocabulary, 257);

    // Every document is on exactly one side, whole, and ended.
    const std::string train = text_of(dir / "out/put/train.bin");
    const std::string held_out = text_of(dir / "out/put/held_out.bin");
    EXPECT_EQ(static_cast<std::int64_t>(train.size()), report.train.tokens);
    EXPECT_EQ(static_cast<std::int64_t>(held_out.size()), report.held_out.tokens);
    for (int i = 0; i < 1000; ++i) {
        const std::string document = fmt::format("doc{}\n|", i);
        EXPECT_NE(("|" + train).find("|" + document) == std::string::npos,
                  ("|" + held_out).find("|" + document) == std::string::npos);
    }
    EXPECT_EQ(train.substr(0, 5), "doc0\n");

    const auto json = nlohmann::json::parse(Scratch::read(dir / "out/put/tokens.json"));
    EXPECT_EQ(json["tokenizer"], "byte");
    EXPECT_EQ(json["vocabulary"], 257);
    EXPECT_EQ(json["end_of_text"], 256);
    EXPECT_EQ(json["train"]["file"], "train.bin");
    EXPECT_EQ(json["train"]["tokens"], report.train.tokens);
    EXPECT_EQ(json["held_out"]["documents"], report.held_out.documents);
    EXPECT_EQ(json["held_out_share"], 0.1);
    EXPECT_EQ(json["empty_documents_skipped"], 1);
    ASSERT_EQ(json["sources"].size(), 2u);
    EXPECT_EQ(json["sources"][0]["path"], options.inputs[0].string());
    EXPECT_EQ(json["sources"][1]["format"], "jsonl");
    EXPECT_EQ(json["sources"][1]["documents"], 1);
}

TEST(Tokenize, WithATrainedBpe) {
    const Scratch dir;
    BpeTrainer trainer({.vocabulary = 300, .pattern = std::string(kGpt2Pattern)});
    std::vector<std::string> documents;
    for (int i = 0; i < 500; ++i) documents.push_back(fmt::format("document {} é\n", i * i));
    trainer.add(documents);
    const std::string json = to_tokenizer_json(trainer.train());
    dir.write("tokenizer.json", json);
    std::string text;
    for (const std::string& document : documents) text += document + "<|endoftext|>\n";
    TokenizeOptions options{.inputs = {dir.write("a.txt", text)},
                            .output = dir / "out",
                            .tokenizer = load_tokenizer(dir / "tokenizer.json"),
                            .tokenizer_files = read_tokenizer_files(dir / ""),
                            .held_out = 0};
    const TokenizeReport report = tokenize(options);
    EXPECT_EQ(report.train.documents, 500);
    EXPECT_EQ(report.vocabulary, options.tokenizer->vocabulary());

    const TokenFile file(dir / "out/train.bin");
    EXPECT_EQ(file.token_bytes(), 2u);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(file.size()));
    file.read(0, ids);
    std::string joined;
    for (const std::string& document : documents) joined += document + "<|endoftext|>";
    EXPECT_EQ(options.tokenizer->decode(ids), joined);
    EXPECT_EQ(std::ranges::count(ids, *options.tokenizer->end_of_text()), 500);

    EXPECT_EQ(Scratch::read(dir / "out/tokenizer.json"), json);
    EXPECT_EQ(tokens_info(dir / "out/train.bin"),
              (TokensInfo{"bpe", options.tokenizer->fingerprint(), "<|endoftext|>",
                          *options.tokenizer->end_of_text()}));

    options.tokenizer = std::make_shared<BpeTokenizer>(
        [&] {
            BpeSpec spec = parse_tokenizer_json(json);
            spec.added.clear();
            return spec;
        }(),
        "");
    EXPECT_TRUE(contains(error_of([&] { tokenize(options); }), "no token that ends a text"));
}

TEST(Tokenize, ReplacesNoTokenizerButItsOwn) {
    const Scratch dir;
    TokenizeOptions options{.inputs = {dir.write("a.txt", numbered(5))},
                            .output = dir / "out",
                            .tokenizer_files = {{"tokenizer.json", "A"}}};
    const auto refused = [&] { return error_of([&] { tokenize(options); }); };
    fs::create_directory(dir / "out");

    // Of a model, even if it is the same.
    dir.write("out/tokenizer.json", "A");
    dir.write("out/config.json", "{}");
    EXPECT_TRUE(contains(refused(), "out: expected a folder for token files, got a model's"));
    dir.write("out/tokens.json", "{}");
    EXPECT_TRUE(contains(refused(), "out: expected a folder for token files, got a model's"));
    fs::remove(dir / "out/config.json");
    fs::remove(dir / "out/tokens.json");

    // Of nobody knows what.
    dir.write("out/tokenizer.json", "B");
    EXPECT_TRUE(contains(refused(), "out/tokenizer.json: would be replaced"));
    dir.write("out/tokenizer.json", "A");
    dir.write("out/chat_template.jinja", "C");
    EXPECT_TRUE(contains(refused(), "out/chat_template.jinja: would be replaced"));
    EXPECT_EQ(Scratch::read(dir / "out/chat_template.jinja"), "C");
    EXPECT_FALSE(fs::exists(dir / "out/train.bin"));

    // The same stays, and that of earlier token files does not.
    options.tokenizer_files["chat_template.jinja"] = "C";
    tokenize(options);
    EXPECT_TRUE(fs::exists(dir / "out/tokens.json"));
    options.tokenizer_files = {{"tokenizer.json", "B"}};
    tokenize(options);
    EXPECT_EQ(Scratch::read(dir / "out/tokenizer.json"), "B");
    EXPECT_FALSE(fs::exists(dir / "out/chat_template.jinja"));
}

TEST(Tokenize, TheNumberOfThreadsDoesNotShow) {
    const Scratch dir;
    std::string text;
    for (int i = 0; i < 2000; ++i) {
        text += fmt::format("{{\"text\": \"{}\"}}\n",
                            std::string(static_cast<std::size_t>(i * 7 % 3000), 'x'));
    }
    TokenizeOptions options{.inputs = {dir.write("a.jsonl", text), dir.write("b.txt", "b")},
                            .output = dir / "out"};
    const int threads = thread_count();
    std::vector<std::string> results;
    for (const int n : {1, 3}) {
        set_thread_count(n);
        EXPECT_EQ(tokenize(options).empty_documents, 1);
        results.push_back(text_of(dir / "out/train.bin") + text_of(dir / "out/held_out.bin") +
                          Scratch::read(dir / "out/tokens.json"));
    }
    set_thread_count(threads);
    EXPECT_EQ(results[0], results[1]);
    // Of several bad lines the first is named.
    options.inputs = {dir.write("bad.jsonl", text + "[]\n{}\n")};
    EXPECT_TRUE(contains(error_of([&] { tokenize(options); }), "bad.jsonl: line 2001"));
}

TEST(Tokenize, TheSplitIsAFunctionOfTheSeed) {
    const Scratch dir;
    const auto run = [&](std::uint64_t seed) {
        tokenize({.inputs = {dir.write("a.txt", numbered(200))},
                  .output = dir / "out",
                  .held_out = 0.2,
                  .seed = seed});
        return text_of(dir / "out/held_out.bin");
    };
    const std::string first = run(1);
    EXPECT_NE(run(2), first);
    EXPECT_EQ(run(1), first);
}

TEST(Tokenize, EachSideHasADocument) {
    const Scratch dir;
    const auto input = dir.write("a.txt", numbered(2));
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
        for (const double held_out : {1e-9, 0.5, 0.999999}) {
            const auto report = tokenize(
                {.inputs = {input}, .output = dir / "out", .held_out = held_out, .seed = seed});
            EXPECT_EQ(report.train.documents, 1);
            EXPECT_EQ(report.held_out.documents, 1);
        }
    }
}

TEST(Tokenize, OneDocumentGoesOnlyIntoTraining) {
    const Scratch dir;
    const auto input = dir.write("a.txt", "just one");
    EXPECT_TRUE(contains(error_of([&] { tokenize({.inputs = {input}, .output = dir / "out"}); }),
                         "one document cannot be split"));
    EXPECT_TRUE(fs::is_empty(dir / "out"));
    tokenize({.inputs = {dir.write("b.txt", numbered(5))}, .output = dir / "out"});
    tokenize({.inputs = {input}, .output = dir / "out", .held_out = 0});
    EXPECT_EQ(text_of(dir / "out/train.bin"), "just one|");
    EXPECT_FALSE(fs::exists(dir / "out/held_out.bin"));
    EXPECT_FALSE(
        nlohmann::json::parse(Scratch::read(dir / "out/tokens.json")).contains("held_out"));
}

TEST(Tokenize, ReportsProgress) {
    const Scratch dir;
    std::string text;
    while (text.size() < (9u << 20)) text += "some text that goes on\n\n";
    const auto input = dir.write("a.txt", text);
    std::vector<TokenizeProgress> seen;
    const auto report = tokenize({.inputs = {input, input}, .output = dir / "out"},
                                 [&](const TokenizeProgress& p) { seen.push_back(p); });
    ASSERT_GE(seen.size(), 6u);
    for (std::size_t i = 1; i < seen.size(); ++i) EXPECT_GE(seen[i].bytes, seen[i - 1].bytes);
    EXPECT_EQ(seen.back().bytes, static_cast<std::int64_t>(2 * text.size()));
    EXPECT_EQ(seen.back().bytes_total, static_cast<std::int64_t>(2 * text.size()));
    EXPECT_EQ(seen.back().documents, report.train.documents + report.held_out.documents);
}

TEST(Tokenize, BadInputIsNamedAndOldResultsStay) {
    const Scratch dir;
    const auto good = dir.write("a.txt", numbered(5));
    tokenize({.inputs = {good}, .output = dir / "out"});
    const std::string before = Scratch::read(dir / "out/train.bin");

    const auto refused = [&](std::vector<fs::path> inputs) {
        return error_of([&] { tokenize({.inputs = std::move(inputs), .output = dir / "out"}); });
    };
    EXPECT_TRUE(contains(refused({good, dir / "missing.txt"}), "missing.txt: cannot open"));
    EXPECT_TRUE(
        contains(refused({good, dir.write("b.jsonl", "{\"text\": 3}\n")}), "b.jsonl: line 1"));
    EXPECT_TRUE(contains(refused({dir.write("empty.txt", "")}), "there is no text in "));
    EXPECT_TRUE(contains(refused({dir.write("e.jsonl", "{\"text\": \"\"}\n")}), "e.jsonl"));
    EXPECT_EQ(Scratch::read(dir / "out/train.bin"), before);
    EXPECT_FALSE(fs::exists(dir / "out/train.bin.tmp"));
    EXPECT_FALSE(fs::exists(dir / "out/held_out.bin.tmp"));

    EXPECT_TRUE(contains(error_of([&] { tokenize({.inputs = {good}, .output = good}); }),
                         "cannot make the directory"));
}

std::string learned_of(const fs::path& path) {
    const TokenFile file(path);
    std::string bits;
    for (std::int64_t i = 0; i < file.size(); ++i) bits += file.learns(i) ? '1' : '0';
    return bits;
}

TEST(Tokenize, PairsLearnTheCompletion) {
    const Scratch dir;
    TokenizeOptions options{.inputs = {dir.write("a.jsonl",
                                                 R"({"prompt": "ab", "completion": "cde"}
{"prompt": "", "completion": ""}
{"completion": "z", "more": 1, "prompt": "xy"}
)")},
                            .output = dir / "out",
                            .records = Records::pairs,
                            .held_out = 0};
    for (const TokenFormat format : {TokenFormat::megatron, TokenFormat::llmc}) {
        options.format = format;
        const TokenizeReport report = tokenize(options);
        EXPECT_EQ(report.train.tokens, 10);
        EXPECT_EQ(report.train.learned, 6);
        EXPECT_EQ(report.empty_documents, 1);
        EXPECT_EQ(text_of(dir / "out/train.bin"), "abcde|xyz|");
        EXPECT_EQ(learned_of(dir / "out/train.bin"), "0011110011");
        EXPECT_EQ(TokenFile(dir / "out/train.bin").format(), format);
    }
    options.completion = "answer";
    EXPECT_TRUE(contains(error_of([&] { tokenize(options); }),
                         "a.jsonl: line 1: the object has no "
                         "field 'answer'"));
    // Texts over it have no mask.
    tokenize({.inputs = {dir.write("a.txt", "q")}, .output = dir / "out", .held_out = 0});
    EXPECT_FALSE(TokenFile(dir / "out/train.bin").has_mask());
}

TEST(Tokenize, ChatsLearnWhatTheAssistantSays) {
    const Scratch dir;
    BpeTrainer trainer({.vocabulary = 259,
                        .pattern = std::string(kGpt2Pattern),
                        .special = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}});
    trainer.add(std::vector<std::string>{"x"});
    const auto tokenizer = std::make_shared<BpeTokenizer>(trainer.train(), "");
    TokenizeOptions options{
        .inputs = {dir.write("a.jsonl", R"({"talk": [{"role": "user", "content": "q"},
 {"role": "assistant", "content": "yes"}]})")},
        .output = dir / "out",
        .records = Records::chats,
        .messages = "talk",
        .chat = ChatTemplate::recognise("<|im_start|><|im_end|>"),
        .tokenizer = tokenizer,
        .held_out = 0};
    // One object a line.
    EXPECT_TRUE(contains(error_of([&] { tokenize(options); }), "a.jsonl: line 1"));
    options.inputs = {dir.write("b.jsonl", R"({"talk": [{"role": "user", "content": "q"}, )"
                                           R"({"role": "assistant", "content": "yes"}]})")};
    tokenize(options);
    const TokenFile file(dir / "out/train.bin");
    std::vector<std::int32_t> ids(static_cast<std::size_t>(file.size())), learned;
    file.read(0, ids);
    for (std::int64_t i = 0; i < file.size(); ++i) {
        if (file.learns(i)) learned.push_back(ids[static_cast<std::size_t>(i)]);
    }
    EXPECT_EQ(tokenizer->decode(ids),
              "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n");
    EXPECT_EQ(tokenizer->decode(learned), "yes<|im_end|>");
    EXPECT_EQ(file.documents()->documents(), 1);
}

TEST(Tokenize, ShardsAreTheWholeInParts) {
    const Scratch dir;
    TokenizeOptions options{
        .inputs = {dir.write("a.txt", numbered(100))}, .output = dir / "out", .held_out = 0.1};
    tokenize(options);
    const std::string train = text_of(dir / "out/train.bin");
    const auto shards = [&] {
        std::string all;
        int count = 0;
        while (fs::exists(dir / fmt::format("out/train_{:05}.bin", count))) {
            const auto path = dir / fmt::format("out/train_{:05}.bin", count++);
            EXPECT_EQ(text_of(path).back(), '|');
            all += text_of(path);
        }
        EXPECT_EQ(all, count > 0 ? train : "");
        return count;
    };
    options.shard_tokens = 100;
    tokenize(options);
    // Of 100 tokens and what the last document, 7 tokens at most, has more.
    const int many = shards();
    EXPECT_GE(many, static_cast<int>(train.size() / 107));
    EXPECT_LE(many, static_cast<int>(train.size() / 100 + 1));
    EXPECT_FALSE(fs::exists(dir / "out/train.bin"));
    EXPECT_FALSE(fs::exists(dir / "out/train.idx"));
    EXPECT_TRUE(fs::exists(dir / "out/held_out_00000.idx"));
    options.shard_tokens = 300;
    tokenize(options);
    EXPECT_EQ(shards(), 3);
    EXPECT_FALSE(fs::exists(dir / "out/train_00003.idx"));
    options.shard_tokens = 0;
    tokenize(options);
    EXPECT_EQ(shards(), 0);
    EXPECT_EQ(text_of(dir / "out/train.bin"), train);
}

// Files of a folder, but for what a killed process leaves open.
std::map<std::string, std::string> contents(const fs::path& folder) {
    std::map<std::string, std::string> files;
    for (const fs::directory_entry& e : fs::directory_iterator(folder)) {
        if (e.path().extension() == ".tmp") continue;
        files[e.path().filename().string()] = Scratch::read(e.path());
    }
    return files;
}

// Files with documents of all lengths, and empty ones; large enough for several batches.
TokenizeOptions in_shards(const Scratch& dir) {
    TokenizeOptions options{.output = dir / "out", .shard_tokens = 400'000, .held_out = 0.2};
    for (int file = 0; file < 4; ++file) {
        std::string lines;
        for (int i = 0; i < 1500; ++i) {
            const std::string text(static_cast<std::size_t>((i * 37 + file) % 1500),
                                   static_cast<char>('a' + i % 26));
            lines += fmt::format("{{\"prompt\": \"{}\", \"completion\": \"{}\"}}\n",
                                 i % 11 == 0 ? "" : "p", i % 11 == 0 ? "" : text);
        }
        options.inputs.push_back(dir.write(fmt::format("{}.jsonl", file), lines));
    }
    options.records = Records::pairs;
    return options;
}

// In another process, which has no time to tidy up.
void tokenize_and_die(const TokenizeOptions& options, std::int64_t documents) {
    const pid_t child = fork();
    if (child == 0) {
        tokenize(options, [&](const TokenizeProgress& p) {
            if (p.documents >= documents) std::raise(SIGKILL);
        });
        _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
}

TEST(Tokenize, GoesOnAfterTheShardsOfAKilledCall) {
    const Scratch dir;
    TokenizeOptions options = in_shards(dir);
    const int threads = thread_count();
    set_thread_count(1);  // small batches
    const TokenizeReport whole = tokenize(options);
    EXPECT_EQ(whole.taken_over, 0);
    const auto want = contents(dir / "out");
    EXPECT_TRUE(want.contains("train_00003.bin"));
    EXPECT_TRUE(want.contains("held_out_00001.bin"));
    for (const std::int64_t killed_at : {2500, 5000}) {
        fs::remove_all(dir / "out");
        tokenize_and_die(options, killed_at);
        // Only whole shards, as they will be, and what says which they are.
        auto left = contents(dir / "out");
        EXPECT_EQ(left.erase("tokens.part.json"), 1u);
        EXPECT_TRUE(left.contains("train_00000.bin"));
        for (const auto& [name, bytes] : left) EXPECT_EQ(bytes, want.at(name)) << name;
        // On any number of threads.
        set_thread_count(killed_at == 2500 ? 3 : 1);
        const TokenizeReport rest = tokenize(options);
        EXPECT_GT(rest.taken_over, killed_at / 4);
        EXPECT_EQ(rest.train, whole.train);
        EXPECT_EQ(rest.held_out, whole.held_out);
        EXPECT_EQ(rest.empty_documents, whole.empty_documents);
        EXPECT_EQ(contents(dir / "out"), want);
        set_thread_count(1);
    }
    // Another call begins anew, and so does this one where a shard is gone.
    const auto interrupted = [&] {
        fs::remove_all(dir / "out");
        tokenize_and_die(options, 5000);
    };
    interrupted();
    options.seed = 1;
    EXPECT_EQ(tokenize(options).taken_over, 0);
    EXPECT_NE(contents(dir / "out"), want);
    options.seed = 0;
    interrupted();
    fs::remove(dir / "out/train_00000.bin");
    EXPECT_EQ(tokenize(options).taken_over, 0);
    EXPECT_EQ(contents(dir / "out"), want);
    set_thread_count(threads);
}

TEST(Tokenize, WrongOptionsAreUsageErrors) {
    const Scratch dir;
    const auto kind = [&](const TokenizeOptions& options) {
        try {
            tokenize(options);
        } catch (const Error& error) {
            return error.kind();
        }
        return ErrorKind::failure;
    };
    const auto input = dir.write("a.txt", numbered(5));
    EXPECT_EQ(kind({.output = dir / "out"}), ErrorKind::usage);
    EXPECT_EQ(kind({.inputs = {input}, .output = dir / "out", .held_out = 1}), ErrorKind::usage);
    EXPECT_EQ(kind({.inputs = {input}, .output = dir / "out", .held_out = -0.1}), ErrorKind::usage);
}

}  // namespace
}  // namespace octavo
