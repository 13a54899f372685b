#include "train/evaluate.h"

#include <gtest/gtest.h>

#include "io/scratch.h"
#include "io/token_file_writer.h"

namespace octavo {
namespace {

// 0, 1, 2, ... in two files.
BatchSource counting(const Scratch& scratch, std::int64_t tokens, std::int64_t seq) {
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

}  // namespace
}  // namespace octavo
