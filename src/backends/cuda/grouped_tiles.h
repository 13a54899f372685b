// The tiles of a grouped product (grouped_gemm.h): which there are, in which order, and what each
// one multiplies. Plain code that also compiles for a GPU.
//
// Tiles are dealt to clusters of blocks. The blocks of a cluster take tiles one below the other, so
// that they multiply by the same rows of b, and always take equally many stages: the stages of one
// are filled by all.
#pragma once

#include <cstdint>

namespace octavo::cuda {

// The t-th of rows x columns tiles, in bands of so many rows: what runs at a time is then about
// square and finds its operands in the L2.
struct TilePlace {
    int row, column;
};
constexpr TilePlace banded(int t, int rows, int columns, int band_rows) {
    const int band = t / (band_rows * columns), within = t % (band_rows * columns);
    const int left = rows - band * band_rows, high = left < band_rows ? left : band_rows;
    return {band * band_rows + within % high, within / high};
}

// The expert that owns a row below offsets[experts]: the one with offsets[e] <= row < offsets[e+1].
constexpr int expert_of(int row, const std::int32_t* offsets, int experts) {
    int low = 0, high = experts;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (offsets[middle] <= row ? low : high) = middle;
    }
    return low;
}

struct GroupedTile {
    int m = 0, n = 0;  // its corner in the result
    int k = 0;         // where the reduction begins
    int stages = 0;    // and how long it is
    int b_expert = 0;  // plane of b, of the result
    int out_expert = 0;
    bool shares_b = true;  // the cluster's blocks multiply by the same expert
    bool past = false;     // behind the last expert's rows: the result counts as 0
};

template <int kM, int kN, int kStageK, int kCluster>
struct GroupedTiles {
    static constexpr int kHeight = kM * kCluster, kBand = 2048 / kHeight;

    bool by_k;  // experts own stretches of the reduction, not of rows
    int experts, m, n, k;

    constexpr int rows() const { return (m + kHeight - 1) / kHeight; }
    constexpr int columns() const { return (n + kN - 1) / kN; }
    // Of a cluster.
    constexpr int count() const { return rows() * columns() * (by_k ? experts : 1); }

    constexpr GroupedTile at(int t, int rank, const std::int32_t* offsets) const {
        const int expert = t / (rows() * columns());  // 0 unless by_k
        const TilePlace place = banded(t % (rows() * columns()), rows(), columns(), kBand);
        const int first = place.row * kHeight;
        GroupedTile tile{.m = first + rank * kM, .n = place.column * kN};
        if (by_k) {
            tile.k = offsets[expert];
            tile.stages = (offsets[expert + 1] - tile.k) / kStageK;
            tile.out_expert = expert;
            return tile;
        }
        const int used = offsets[experts];
        tile.past = tile.m >= used;
        if (first >= used) return tile;
        const auto owner = [&](int row) {
            return expert_of(row < used ? row : used - 1, offsets, experts);
        };
        tile.stages = (k + kStageK - 1) / kStageK;
        tile.b_expert = owner(tile.m);
        tile.shares_b = owner(first) == owner(first + kHeight - kM);
        return tile;
    }
};

}  // namespace octavo::cuda
