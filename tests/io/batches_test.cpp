#include "io/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "io/mixture.h"
#include "io/token_file_writer.h"
#include "scratch.h"

namespace octavo {
namespace {

using Tokens = std::vector<std::int32_t>;
constexpr std::int64_t kVocabulary = 100000;

// Shards of the given sizes that together count 0, 1, 2, ...: a token is its own position.
std::vector<TokenFile> counting(const Scratch& dir, const std::vector<int>& sizes) {
    std::vector<TokenFile> shards;
    std::int32_t next = 0;
    for (const int size : sizes) {
        const auto path = dir / ("shard" + std::to_string(shards.size()) + ".bin");
        Tokens tokens(static_cast<std::size_t>(size));
        for (auto& token : tokens) token = next++;
        TokenFileWriter file(path, kVocabulary);
        file.write(tokens);
        file.close();
        shards.emplace_back(path);
    }
    return shards;
}

struct Window {
    Tokens inputs, targets;
    bool operator==(const Window&) const = default;
};

Window get(const BatchSource& source, std::int64_t sample) {
    const auto t = static_cast<std::size_t>(source.sequence_length());
    Window window{Tokens(t), Tokens(t)};
    source.get(sample, window.inputs, window.targets);
    return window;
}

struct EpochCase {
    std::int64_t t;
    std::vector<int> shards;
};
void PrintTo(const EpochCase& c, std::ostream* out) {
    *out << "t" << c.t;
    for (int n : c.shards) *out << "_" << n;
}

class Epoch : public testing::TestWithParam<EpochCase> {};

TEST_P(Epoch, HasEachWindowOnce) {
    const Scratch dir;
    const auto [t, sizes] = GetParam();
    const BatchSource source(counting(dir, sizes),
                             {.sequence_length = t, .vocabulary = kVocabulary, .seed = 5});
    std::int64_t n = 0;
    for (const int size : sizes) n += size;
    EXPECT_EQ(source.tokens(), n);
    ASSERT_GE(source.windows(), 1);
    EXPECT_GE(source.windows(), (n - 1) / t - 1);

    std::set<std::int64_t> offsets;
    for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
        std::set<std::int64_t> begins;
        for (std::int64_t i = 0; i < source.windows(); ++i) {
            const Window w = get(source, epoch * source.windows() + i);
            const std::int32_t begin = w.inputs[0];
            for (std::int32_t k = 0; k < t; ++k) {
                ASSERT_EQ(w.inputs[k], begin + k);
                ASSERT_EQ(w.targets[k], begin + k + 1);
            }
            begins.insert(begin);
        }
        ASSERT_EQ(static_cast<std::int64_t>(begins.size()), source.windows());
        EXPECT_LT(*begins.begin(), t);
        EXPECT_LT(*begins.rbegin() + t, n);
        EXPECT_EQ(*begins.rbegin() - *begins.begin(), (source.windows() - 1) * t);
        offsets.insert(*begins.begin());
    }
    if (n >= 2 * t && t >= 5) {
        EXPECT_GT(offsets.size(), 3u);
    }
}

INSTANTIATE_TEST_SUITE_P(Cases, Epoch,
                         testing::Values(EpochCase{1, {2}}, EpochCase{1, {1, 1, 1}},
                                         EpochCase{8, {9}}, EpochCase{8, {10}}, EpochCase{8, {15}},
                                         EpochCase{8, {16}}, EpochCase{8, {17}},
                                         EpochCase{8, {100}}, EpochCase{7, {50, 3, 1, 200}},
                                         EpochCase{64, {1, 1, 500, 63}}, EpochCase{13, {997}}),
                         testing::PrintToStringParamName());

TEST(BatchSource, EpochsAndSeedsDiffer) {
    const Scratch dir;
    const auto make = [&](std::uint64_t seed) {
        return BatchSource(counting(dir, {8000}),
                           {.sequence_length = 8, .vocabulary = kVocabulary, .seed = seed});
    };
    const BatchSource a = make(1), b = make(2);
    int same_epoch = 0, same_seed = 0, in_order = 0;
    for (std::int64_t i = 0; i < a.windows(); ++i) {
        const std::int32_t window = get(a, i).inputs[0] / 8;
        same_epoch += window == get(a, i + a.windows()).inputs[0] / 8;
        same_seed += window == get(b, i).inputs[0] / 8;
        in_order += window == i;
    }
    EXPECT_LT(same_epoch, 12);
    EXPECT_LT(same_seed, 12);
    EXPECT_LT(in_order, 12);
}

TEST(BatchSource, DoesNotDependOnCallOrder) {
    const Scratch dir;
    const BatchOptions options{.sequence_length = 16, .vocabulary = kVocabulary, .seed = 9};
    const BatchSource forwards(counting(dir, {300, 400}), options);
    std::map<std::int64_t, Window> seen;
    for (std::int64_t i = 0; i < 150; ++i) seen[i] = get(forwards, i);
    // A run resumed at sample 97 is a new source asked for sample 97 first.
    const BatchSource resumed(counting(dir, {300, 400}), options);
    for (std::int64_t i = 97; i < 150; ++i) EXPECT_EQ(get(resumed, i), seen[i]);
    for (std::int64_t i = 96; i >= 0; --i) EXPECT_EQ(get(resumed, i), seen[i]);
}

// Of one source, which has all samples.
Mixture alone(BatchSource source) {
    std::vector<BatchSource> sources;
    sources.push_back(std::move(source));
    return Mixture(std::move(sources), {3.5});
}

TEST(Mixture, RanksShareAStep) {
    const Scratch dir;
    const Mixture source =
        alone({counting(dir, {900}), {.sequence_length = 4, .vocabulary = kVocabulary, .seed = 3}});
    const auto step = [&](std::size_t rows, int ranks, std::int64_t number) {
        std::multiset<std::int32_t> begins;
        for (int rank = 0; rank < ranks; ++rank) {
            Tokens inputs(rows * 4), targets(rows * 4);
            source.batch(number, {inputs, targets}, rank, ranks);
            for (std::size_t b = 0; b < rows; ++b) {
                begins.insert(inputs[4 * b]);
                EXPECT_EQ(targets[4 * b + 3], inputs[4 * b] + 4);
            }
        }
        return begins;
    };
    for (const std::int64_t number : {0, 1, 30, 1000}) {
        const auto one = step(12, 1, number);
        EXPECT_EQ(one.size(), 12u);
        EXPECT_EQ(step(6, 2, number), one);
        EXPECT_EQ(step(4, 3, number), one);
        EXPECT_EQ(step(1, 12, number), one);
    }
}

TEST(Mixture, BatchRowsAreSamples) {
    const Scratch dir;
    const Mixture source =
        alone({counting(dir, {900}), {.sequence_length = 4, .vocabulary = kVocabulary, .seed = 3}});
    Tokens inputs(12), targets(12);
    source.batch(5, {inputs, targets});
    for (std::int64_t b = 0; b < 3; ++b) {
        const Window w = get(source.sources()[0], 15 + b);
        EXPECT_TRUE(std::equal(w.inputs.begin(), w.inputs.end(), inputs.begin() + 4 * b));
        EXPECT_TRUE(std::equal(w.targets.begin(), w.targets.end(), targets.begin() + 4 * b));
    }
}

TEST(BatchSource, SequentialIsTheDataInOrder) {
    const Scratch dir;
    const BatchSource source(
        counting(dir, {10, 11}),
        {.sequence_length = 5, .vocabulary = kVocabulary, .order = Order::sequential});
    ASSERT_EQ(source.windows(), 4);  // the 21st token is the last target
    for (std::int32_t i = 0; i < 4; ++i) {
        EXPECT_EQ(get(source, i).inputs,
                  (Tokens{5 * i, 5 * i + 1, 5 * i + 2, 5 * i + 3, 5 * i + 4}));
        EXPECT_EQ(get(source, i).targets[4], 5 * i + 5);
    }
    EXPECT_TRUE(contains(error_of([&] { get(source, 4); }), "below the 4 windows"));
    EXPECT_THROW(get(source, -1), Error);
}

TEST(BatchSource, SequenceLongerThanTheDataNamesBoth) {
    const Scratch dir;
    const std::string error = error_of([&] {
        BatchSource(counting(dir, {20, 12}), {.sequence_length = 32, .vocabulary = kVocabulary});
    });
    EXPECT_TRUE(contains(error, "shard0.bin and 1 more"));
    EXPECT_TRUE(contains(error, "sequence longer than the data"));
    EXPECT_TRUE(contains(error, "need 33 tokens, the data has 32"));
    EXPECT_TRUE(contains(error, "a sequence length of at most 31"));
    const BatchSource fits(counting(dir, {20, 12}),
                           {.sequence_length = 31, .vocabulary = kVocabulary});
    EXPECT_EQ(fits.windows(), 1);
}

TEST(BatchSource, ChecksItsArguments) {
    const Scratch dir;
    EXPECT_TRUE(contains(error_of([&] {
                             BatchSource(counting(dir, {50}),
                                         {.sequence_length = 4, .vocabulary = 49});
                         }),
                         "vocabulary of 49, got 49 at position 49"));
    EXPECT_THROW(BatchSource({}, {.sequence_length = 4, .vocabulary = 9}), Error);
    EXPECT_THROW(BatchSource(counting(dir, {50}), {.sequence_length = 0, .vocabulary = 50}), Error);

    BatchSource source(counting(dir, {50}), {.sequence_length = 4, .vocabulary = 50});
    Tokens three(3), four(4), eight(8);
    EXPECT_THROW(source.get(0, three, four), Error);
    EXPECT_THROW(source.get(-1, four, four), Error);
    const Mixture mixture = alone(std::move(source));
    EXPECT_THROW(mixture.batch(0, {eight, four}), Error);
    EXPECT_THROW(mixture.batch(0, {three, three}), Error);
    EXPECT_THROW(mixture.batch(0, {four, four}, 2, 2), Error);
}

}  // namespace
}  // namespace octavo
