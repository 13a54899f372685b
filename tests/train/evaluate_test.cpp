#include "train/evaluate.h"

#include <gtest/gtest.h>

#include "io/scratch.h"
#include "io/token_file_writer.h"

namespace octavo {
namespace {

// 0, 1, 2, ... in two files, perhaps with a loss mask.
BatchSource counting(const Scratch& scratch, std::int64_t tokens, std::int64_t seq,
                     const std::string& mask = "") {
    std::vector<TokenFile> shards;
    for (const std::int64_t part : {0, 1}) {
        const auto path = scratch / (part == 0 ? "a.bin" : "b.bin");
        TokenFileWriter writer(path, 1000);
        std::vector<std::int32_t> ids;
        for (std::int64_t i = part * tokens / 2; i < (part + 1) * tokens / 2; ++i) {
            ids.push_back(static_cast<std::int32_t>(i));
        }
        writer.write(ids);
        writer.close();
        if (!mask.empty()) {
            const auto half = static_cast<std::size_t>(tokens / 2);
            scratch.write(path.filename().string() + ".loss",
                          mask.substr(static_cast<std::size_t>(part) * half, half));
        }
        shards.emplace_back(path);
    }
    return BatchSource(std::move(shards),
                       {.sequence_length = seq, .vocabulary = 1000, .order = Order::sequential});
}

TEST(MeanLoss, SeesEveryWindowOnce) {
    const Scratch scratch;
    const BatchSource data = counting(scratch, 100, 9);
    ASSERT_EQ(data.windows(), 11);  // 99 targets
    for (const std::int64_t batch : {1, 2, 4, 16}) {
        std::vector<std::int32_t> seen;
        const MeanLoss mean = mean_loss(data, batch, 0, [&](const Batch& tokens) {
            const auto& [ids, targets, starts, positions] = tokens;
            EXPECT_EQ(std::ssize(ids), batch * 9);
            double sum = 0;
            for (std::size_t i = 0; i < targets.size(); ++i) {
                if (targets[i] < 0) continue;
                EXPECT_EQ(targets[i], ids[i] + 1);
                seen.push_back(targets[i]);
                sum += targets[i];
            }
            return sum;
        });
        ASSERT_EQ(seen.size(), 99u);
        for (std::size_t i = 0; i < seen.size(); ++i) {
            EXPECT_EQ(seen[i], static_cast<std::int32_t>(i) + 1);
        }
        EXPECT_EQ(mean.tokens, 99);
        EXPECT_DOUBLE_EQ(mean.loss, 50);
    }
}

TEST(MeanLoss, StopsWhereItIsAskedTo) {
    const Scratch scratch;
    const BatchSource data = counting(scratch, 100, 9);
    std::vector<std::int64_t> done;
    const auto zero = [](const Batch&) { return 1.0; };
    const MeanLoss mean = mean_loss(data, 2, 3, zero, [&](std::int64_t i, std::int64_t all) {
        done.push_back(i);
        EXPECT_EQ(all, 3);
    });
    EXPECT_EQ(mean.tokens, 54);
    EXPECT_EQ(done, (std::vector<std::int64_t>{1, 2, 3}));
    EXPECT_EQ(mean_loss(data, 2, 100, zero).tokens, 99);
}

// A loss of nothing would look like a perfect one.
TEST(MeanLoss, NeedsATarget) {
    const Scratch scratch;
    std::string mask(100, '\0');
    const auto one = [](const Batch&) { return 1.0; };
    const std::string text =
        error_of([&] { mean_loss(counting(scratch, 100, 9, mask), 2, 0, one); });
    EXPECT_TRUE(contains(text, "a.bin and 1 more: expected a token to be learned"));
    // Only in the last window, which is asked for or not.
    mask.back() = 1;
    const BatchSource data = counting(scratch, 100, 9, mask);
    EXPECT_EQ(mean_loss(data, 2, 0, one).tokens, 1);
    EXPECT_TRUE(contains(error_of([&] { mean_loss(data, 2, 5, one); }), "in the first 10 windows"));
}

}  // namespace
}  // namespace octavo
