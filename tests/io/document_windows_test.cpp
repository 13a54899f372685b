// Windows of data with documents and loss masks.
#include <gtest/gtest.h>

#include <algorithm>

#include "foreign_tokens.h"
#include "io/batches.h"
#include "io/token_file_writer.h"

namespace octavo {
namespace {

using Tokens = std::vector<std::int32_t>;

// Tokens 10, 11, 12, ... in documents of these lengths, those with an id that ends in 3 not
// learned.
TokenFile documents(const Scratch& dir, const char* name, const std::vector<int>& lengths,
                    bool mask = false) {
    TokenFileWriter file(dir / name, 1000, {.format = TokenFormat::megatron, .mask = mask});
    std::int32_t next = 10;
    for (const int length : lengths) {
        Tokens ids;
        std::vector<std::uint8_t> learn;
        for (int i = 0; i < length; ++i) {
            learn.push_back(next % 10 != 3);
            ids.push_back(next++);
        }
        file.write(ids, mask ? std::span<const std::uint8_t>(learn) : std::span<std::uint8_t>());
    }
    file.close();
    return TokenFile(dir / name);
}

struct Window {
    Tokens inputs, targets, starts, positions;
    bool operator==(const Window&) const = default;
};
void PrintTo(const Window& w, std::ostream* out) {
    for (const Tokens* part : {&w.inputs, &w.targets, &w.starts, &w.positions}) {
        *out << " | ";
        for (const std::int32_t x : *part) *out << x << " ";
    }
}

Window get(const BatchSource& source, std::int64_t sample) {
    const auto t = static_cast<std::size_t>(source.sequence_length());
    Window w{Tokens(t, 7), Tokens(t, 7), {}, {}};
    if (source.options().documents) {
        w.starts.resize(t, 7);
        w.positions.resize(t, 7);
    }
    source.get(sample, {w.inputs, w.targets, w.starts, w.positions});
    return w;
}

BatchSource source_of(TokenFile file, BatchOptions options) {
    options.vocabulary = 1000;
    options.order = Order::sequential;
    std::vector<TokenFile> shards;
    shards.push_back(std::move(file));
    return {std::move(shards), options};
}

TEST(LossMask, LeavesTargetsOut) {
    const Scratch dir;
    const BatchSource source =
        source_of(documents(dir, "a.bin", {9, 12}, true), {.sequence_length = 5});
    EXPECT_EQ(get(source, 0), (Window{{10, 11, 12, 13, 14}, {11, 12, -1, 14, 15}, {}, {}}));
    EXPECT_EQ(get(source, 2), (Window{{20, 21, 22, 23, 24}, {21, 22, -1, 24, 25}, {}, {}}));
    Batch batch(2, 5, false);
    source.get(0, batch.spans().rows(1, 1, 5));
    batch.targets[0] = -1;
    EXPECT_EQ(batch.learned(), 8);
}

TEST(DocumentMask, DocumentsBeginAnewAndDoNotPredictTheNext) {
    const Scratch dir;
    const Window first{
        {10, 11, 12, 13, 14, 15}, {11, 12, -1, 14, -1, 16}, {0, 0, 0, 3, 3, 5}, {0, 1, 2, 0, 1, 0}};
    // The second window begins within a document, which counts as its beginning.
    const Window second{
        {16, 17, 18, 19, 20, 21}, {17, 18, 19, -1, 21, 22}, {0, 0, 0, 0, 4, 4}, {0, 1, 2, 3, 0, 1}};
    const BatchOptions options{.sequence_length = 6, .documents = true};
    const BatchSource indexed = source_of(documents(dir, "a.bin", {3, 2, 5, 4}), options);
    EXPECT_EQ(get(indexed, 0), first);
    EXPECT_EQ(get(indexed, 1), second);

    // The same by a token that ends documents; one end of text a time is enough to tell.
    TokenFileWriter plain(dir / "b.bin", 1000);
    plain.write(Tokens{10, 11, 999, 13, 999, 15, 16, 17, 18, 999, 20, 21, 22, 23});
    plain.close();
    BatchOptions by_token = options;
    by_token.end_of_text = 999;
    const BatchSource ended = source_of(TokenFile(dir / "b.bin"), by_token);
    EXPECT_EQ(get(ended, 0).starts, first.starts);
    EXPECT_EQ(get(ended, 0).positions, first.positions);
    EXPECT_EQ(get(ended, 0).targets, (Tokens{11, 999, -1, 999, -1, 16}));
    EXPECT_EQ(get(ended, 1).starts, second.starts);
    EXPECT_TRUE(contains(error_of([&] { source_of(TokenFile(dir / "b.bin"), options); }),
                         "nothing says where documents end"));
}

TEST(DocumentMask, FilesAreDocumentsApart) {
    const Scratch dir;
    std::vector<TokenFile> shards;
    shards.push_back(documents(dir, "a.bin", {3}));
    shards.push_back(documents(dir, "b.bin", {4}));
    const BatchSource source(
        std::move(shards),
        {.sequence_length = 6, .vocabulary = 1000, .order = Order::sequential, .documents = true});
    EXPECT_EQ(get(source, 0), (Window{{10, 11, 12, 10, 11, 12},
                                      {11, 12, -1, 11, 12, 13},
                                      {0, 0, 0, 3, 3, 3},
                                      {0, 1, 2, 0, 1, 2}}));
}

TEST(Windows, PackedHoldWholeDocuments) {
    const Scratch dir;
    const auto file = [&] { return documents(dir, "a.bin", {3, 2, 1, 9, 4}); };
    const BatchSource packed =
        source_of(file(), {.sequence_length = 5, .windows = Windows::packed, .documents = true});
    ASSERT_EQ(packed.windows(), 3);
    EXPECT_EQ(packed.cut_documents(), 1);
    EXPECT_EQ(
        get(packed, 0),
        (Window{{10, 11, 12, 13, 0}, {11, 12, -1, 14, -1}, {0, 0, 0, 3, 4}, {0, 1, 2, 0, 0}}));
    // The document of nine tokens, cut; that of one token has nothing to predict.
    EXPECT_EQ(
        get(packed, 1),
        (Window{{16, 17, 18, 19, 20}, {17, 18, 19, 20, 21}, {0, 0, 0, 0, 0}, {0, 1, 2, 3, 4}}));
    EXPECT_EQ(get(packed, 2).inputs, (Tokens{25, 26, 27, 0, 0}));

    const BatchSource padded =
        source_of(file(), {.sequence_length = 5, .windows = Windows::padded});
    ASSERT_EQ(padded.windows(), 4);
    EXPECT_EQ(get(padded, 1), (Window{{13, 0, 0, 0, 0}, {14, -1, -1, -1, -1}, {}, {}}));
}

TEST(Windows, ShuffledOnesAreEachSeenOnceAnEpoch) {
    const Scratch dir;
    std::vector<TokenFile> shards;
    shards.push_back(documents(dir, "a.bin", {3, 5, 4, 6, 2, 7, 3}));
    const BatchSource source(
        std::move(shards),
        {.sequence_length = 6, .vocabulary = 1000, .seed = 3, .windows = Windows::padded});
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        std::vector<std::int32_t> firsts;
        for (std::int64_t i = 0; i < 7; ++i) {
            firsts.push_back(get(source, epoch * 7 + i).inputs[0]);
        }
        std::ranges::sort(firsts);
        EXPECT_EQ(firsts, (Tokens{10, 13, 18, 22, 28, 30, 37}));
    }
}

}  // namespace
}  // namespace octavo
