// Which tiles the blocks of a grouped product take; no GPU is needed for that.
#include "backends/cuda/grouped_tiles.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <vector>

namespace octavo::cuda {
namespace {

constexpr int kCluster = 2, kM = 128, kN = 256, kStageK = 64;
using Tiles = GroupedTiles<kM, kN, kStageK, kCluster>;

std::vector<std::int32_t> offsets_of(const std::vector<int>& tiles) {
    std::vector<std::int32_t> offsets{0};
    for (const int n : tiles) offsets.push_back(offsets.back() + n * kM);
    return offsets;
}

// What clusters of one product see, one experts' division after the other.
const std::vector<std::vector<int>> kDivisions{
    {1}, {2}, {0, 0, 0}, {0, 7, 0}, {2, 1}, {1, 1, 1, 1}, {1, 0, 3, 2, 0}, {0, 0, 5}, {3, 40, 1}};

TEST(GroupedTiles, ExpertsOfRows) {
    for (const auto& division : kDivisions) {
        const auto offsets = offsets_of(division);
        const int experts = static_cast<int>(division.size());
        for (int e = 0; e < experts; ++e) {
            for (int row = offsets[e]; row < offsets[e + 1]; ++row) {
                ASSERT_EQ(expert_of(row, offsets.data(), experts), e) << row;
            }
        }
    }
}

TEST(GroupedTiles, ByRowsCoverTheResultOnce) {
    for (const auto& division : kDivisions) {
        const auto offsets = offsets_of(division);
        const int used = offsets.back(), experts = static_cast<int>(division.size());
        for (const int rows : {used + 1, used + 300}) {
            const Tiles tiles{false, experts, rows, 600, 200};
            std::map<std::pair<int, int>, int> seen;
            for (int t = 0; t < tiles.count(); ++t) {
                const GroupedTile pair[] = {tiles.at(t, 0, offsets.data()),
                                            tiles.at(t, 1, offsets.data())};
                EXPECT_EQ(pair[0].stages, pair[1].stages);
                EXPECT_EQ(pair[0].shares_b, pair[1].shares_b);
                EXPECT_EQ(pair[0].shares_b, pair[0].b_expert == pair[1].b_expert);
                for (const GroupedTile& tile : pair) {
                    ++seen[{tile.m, tile.n}];
                    EXPECT_EQ(tile.past, tile.m >= used);
                    EXPECT_EQ(tile.k, 0);
                    EXPECT_EQ(tile.out_expert, 0);
                    if (tile.past) continue;
                    EXPECT_EQ(tile.stages, 4);
                    EXPECT_EQ(tile.b_expert, expert_of(tile.m, offsets.data(), experts));
                }
            }
            for (int m = 0; m < rows; m += kM) {
                for (int n = 0; n < 600; n += kN) EXPECT_EQ((seen[{m, n}]), 1) << m << ", " << n;
            }
        }
    }
}

TEST(GroupedTiles, ByKCoverEveryResultOnce) {
    for (const auto& division : kDivisions) {
        const auto offsets = offsets_of(division);
        const int experts = static_cast<int>(division.size());
        const Tiles tiles{true, experts, 2200, 300, offsets.back()};
        std::map<std::vector<int>, int> seen;
        for (int t = 0; t < tiles.count(); ++t) {
            for (int rank = 0; rank < kCluster; ++rank) {
                const GroupedTile tile = tiles.at(t, rank, offsets.data());
                ++seen[{tile.out_expert, tile.m, tile.n}];
                EXPECT_TRUE(tile.shares_b);
                EXPECT_FALSE(tile.past);
                EXPECT_EQ(tile.b_expert, 0);
                EXPECT_EQ(tile.k, offsets[tile.out_expert]);
                EXPECT_EQ(tile.k + tile.stages * kStageK, offsets[tile.out_expert + 1]);
            }
        }
        for (int e = 0; e < experts; ++e) {
            for (int m = 0; m < 2200; m += kM) {
                for (int n = 0; n < 300; n += kN) EXPECT_EQ((seen[{e, m, n}]), 1);
            }
        }
    }
}

}  // namespace
}  // namespace octavo::cuda
