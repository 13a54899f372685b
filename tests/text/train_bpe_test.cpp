#include "text/train_bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "base/parallel.h"
#include "text/random_text.h"
#include "text/small_tokenizer.h"
#include "text/split_pattern.h"

namespace octavo {
namespace {

using Documents = std::vector<std::string>;

BpeSpec train(const Documents& documents, std::int32_t vocabulary,
              std::string_view pattern = kGpt2Pattern) {
    BpeTrainer trainer({.vocabulary = vocabulary, .pattern = std::string(pattern)});
    trainer.add(documents);
    return trainer.train();
}

std::vector<std::string> merged(const BpeSpec& spec) {
    std::vector<std::string> tokens;
    for (const Merge& m : spec.merges)
        tokens.push_back(spec.tokens[static_cast<std::size_t>(m.result)]);
    return tokens;
}

TEST(TrainBpe, TheMostFrequentPairComesFirst) {
    const BpeSpec spec = train({"low low low lower lowest newest newest"}, 256 + 5 + 1);
    // l+o and o+w occur five times each, and l comes before o.
    EXPECT_EQ(merged(spec), (std::vector<std::string>{"lo", "low", " low", "es", "est"}));
    EXPECT_EQ(spec.tokens.size(), 262u);
    EXPECT_EQ(spec.added.front().content, "<|endoftext|>");
    EXPECT_EQ(spec.added.front().id, 261);
    EXPECT_EQ(spec.tokens[0], "!");  // bytes in the order of their spelling
}

TEST(TrainBpe, StopsWhenNothingOccursTwice) {
    const BpeSpec spec = train({"aa aa"}, 1000);
    EXPECT_EQ(merged(spec), (std::vector<std::string>{"aa"}));
    EXPECT_EQ(spec.tokens.size(), 258u);
}

// Counts all pairs again before every merge.
std::vector<Merge> by_definition(std::vector<std::vector<std::int32_t>> words,
                                 std::vector<std::string> tokens, std::size_t count) {
    std::vector<Merge> merges;
    while (merges.size() < count) {
        std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> pairs;
        for (const auto& word : words) {
            for (std::size_t i = 1; i < word.size(); ++i) ++pairs[{word[i - 1], word[i]}];
        }
        const auto best = std::ranges::max_element(
            pairs, [](const auto& a, const auto& b) { return a.second < b.second; });
        if (best == pairs.end() || best->second < 2) break;
        const auto [left, right] = best->first;
        const std::string token =
            tokens[static_cast<std::size_t>(left)] + tokens[static_cast<std::size_t>(right)];
        const auto known = std::ranges::find(tokens, token);
        const auto result = static_cast<std::int32_t>(known - tokens.begin());
        if (known == tokens.end()) tokens.push_back(token);
        merges.push_back({left, right, result});
        for (auto& word : words) {
            for (std::size_t i = 0; i + 1 < word.size(); ++i) {
                if (word[i] != left || word[i + 1] != right) continue;
                word[i] = result;
                word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
            }
        }
    }
    return merges;
}

TEST(TrainBpe, AgreesWithTheDefinition) {
    std::mt19937 random(5);
    for (int round = 0; round < 8; ++round) {
        // Runs of few letters: pairs that overlap themselves, ties, tokens made in two ways.
        std::string text;
        std::vector<std::vector<std::int32_t>> words;
        const BpeSpec bytes = train({"x"}, 257);
        for (int w = 0; w < 300; ++w) {
            std::string word;
            for (std::size_t n = 1 + random() % 9; n > 0; --n)
                word += "abc"[random() % (2 + round % 2)];
            text += word + "1";  // a number is a word of its own
            auto& ids = words.emplace_back();
            for (const char c : word) ids.push_back(bytes.byte_ids[static_cast<unsigned char>(c)]);
        }
        const BpeSpec spec = train({text}, 256 + 60 + 1);
        const std::vector<std::string> tokens(bytes.tokens.begin(), bytes.tokens.begin() + 256);
        EXPECT_EQ(spec.merges, by_definition(words, tokens, spec.merges.size())) << text;
        EXPECT_GT(spec.merges.size(), 40u);
    }
}

TEST(TrainBpe, DependsOnTheTextAlone) {
    Documents documents;
    for (unsigned i = 0; i < 40; ++i) documents.push_back(random_text(400, i % 10));
    const std::string once = to_tokenizer_json(train(documents, 400));
    std::ranges::reverse(documents);
    const int threads = thread_count();
    for (const int n : {1, 3}) {
        set_thread_count(n);
        BpeTrainer trainer({.vocabulary = 400, .pattern = std::string(kGpt2Pattern)});
        for (const std::string& document : documents) trainer.add({&document, 1});
        EXPECT_EQ(to_tokenizer_json(trainer.train()), once);
    }
    set_thread_count(threads);
}

TEST(TrainBpe, WhatIsWrittenIsRead) {
    const BpeSpec spec = train({random_text(20'000, 1)}, 600, kLlama3Pattern);
    const BpeSpec back = parse_tokenizer_json(to_tokenizer_json(spec));
    EXPECT_EQ(back.tokens, spec.tokens);
    EXPECT_EQ(back.byte_ids, spec.byte_ids);
    EXPECT_EQ(back.merges, spec.merges);
    EXPECT_EQ(back.added, spec.added);
    EXPECT_EQ(back.patterns, spec.patterns);
    EXPECT_EQ(to_tokenizer_json(back), to_tokenizer_json(spec));
}

TEST(TrainBpe, RoundTripsTextItHasNotSeen) {
    const BpeTokenizer tokenizer(train({random_text(100'000, 1)}, 2000, kLlama3Pattern), "");
    const std::string text = random_text(1 << 20, 2);
    const auto ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_LT(ids.size(), text.size() * 3 / 4);
}

// By itself, and wherever it stands in a text.
TEST(TrainBpe, AddedTokensRoundTrip) {
    BpeTrainer trainer({.vocabulary = 1000,
                        .pattern = std::string(kLlama3Pattern),
                        .special = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool é>"}});
    trainer.add(std::vector<std::string>{random_text(50'000, 1)});
    const BpeSpec spec = trainer.train();
    ASSERT_EQ(spec.added.size(), 4u);
    const BpeTokenizer tokenizer(parse_tokenizer_json(to_tokenizer_json(spec)), "");
    std::string all;
    for (const AddedToken& added : spec.added) {
        EXPECT_EQ(tokenizer.encode(added.content), std::vector<std::int32_t>{added.id});
        EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{added.id}), added.content);
        for (const std::string& around : {random_text(50, 3), std::string(" "), std::string("x")}) {
            const std::string text = around + added.content + around;
            const auto ids = tokenizer.encode(text);
            EXPECT_EQ(std::ranges::count(ids, added.id), 1) << text;
            EXPECT_EQ(tokenizer.decode(ids), text);
            all += text;
        }
    }
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(all)), all);
}

TEST(TrainBpe, LongWordsAreCut) {
    // Both end in "bc"; the longer one is cut between the two.
    const auto tokens = [](std::size_t length) {
        const std::string word = std::string(length - 2, 'a') + "bc";
        return merged(train({word + "1" + word}, 1000));
    };
    EXPECT_EQ(tokens(BpeTrainer::kLongestWord).back(),
              std::string(BpeTrainer::kLongestWord - 2, 'a') + "bc");
    EXPECT_EQ(tokens(BpeTrainer::kLongestWord + 1).back(),
              std::string(BpeTrainer::kLongestWord - 1, 'a') + "b");
}

TEST(TrainBpe, SpecialTokensAreNoText) {
    const BpeSpec spec = train({"<|endoftext|><|endoftext|>ab<|endoftext|>ab"}, 300);
    EXPECT_EQ(merged(spec), (std::vector<std::string>{"ab"}));
}

TEST(TrainBpe, RefusesByName) {
    EXPECT_TRUE(contains(error_of([] { train({"x"}, 256); }), "at least 257 tokens, got 256"));
    EXPECT_TRUE(contains(error_of([] { train({}, 300); }), "no text"));
    EXPECT_TRUE(contains(error_of([] {
                             BpeTrainer({.vocabulary = 300, .pattern = "\\p{L}+", .special = {"a"}})
                                 .add(std::vector<std::string>{"b"});
                             BpeTrainer trainer(
                                 {.vocabulary = 300, .pattern = "\\p{L}+", .special = {"a"}});
                             trainer.add(std::vector<std::string>{"bb"});
                             trainer.train();
                         }),
                         "'a' is a token of the text"));
}

}  // namespace
}  // namespace octavo
