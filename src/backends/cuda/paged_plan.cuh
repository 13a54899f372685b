// Which rows of a call go together: neighbours of one sequence share a tile; a row between rows of
// other sequences, as in decoding, has none to share with.
#pragma once

#include "backends/cuda/paged_attention.cuh"

namespace octavo::cuda {

struct PagedPlan {
    struct Counts {
        int tiles, lone, taken;  // taken: work that blocks have begun
    };
    Counts* counts;
    int2* tiles;         // first row, and the one past the last
    std::int32_t* lone;  // rows

    static std::int64_t bytes(std::int64_t rows, std::int64_t most_lone) {
        return ceil_div(16 + rows * 8 + most_lone * 4, 16) * 16;
    }
    PagedPlan(std::byte* memory, std::int64_t rows)
        : counts(reinterpret_cast<Counts*>(memory)),
          tiles(reinterpret_cast<int2*>(memory + 16)),
          lone(reinterpret_cast<std::int32_t*>(memory + 16 + rows * 8)) {}
};

inline constexpr int kPlanThreads = 1024;

// `all`: threads of the block with `flag`, of which `before` come before this one.
__device__ inline void count_flags(bool flag, int& before, int& all) {
    __shared__ int of_warps[kWarp];
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const unsigned flags = __ballot_sync(0xFFFFFFFF, flag);
    __syncthreads();  // an earlier call's have been read
    if (lane == 0) of_warps[warp] = __popc(flags);
    __syncthreads();
    before = __popc(flags & ((1u << lane) - 1));
    all = 0;
    for (int w = 0; w < kPlanThreads / kWarp; ++w) {
        if (w < warp) before += of_warps[w];
        all += of_warps[w];
    }
}

// Tiles have up to `tokens` rows, and begin at multiples of that where their sequence does not. Of
// lone rows, those after `most_lone` have tiles, too. One block.
inline __global__ void __launch_bounds__(kPlanThreads)
    paged_plan_kernel(const std::int32_t* sequences, int rows, int tokens, int most_lone,
                      PagedPlan plan) {
    int lone_rows = 0, tiles = 0;
    for (int base = 0; base < rows; base += kPlanThreads) {
        const int row = base + static_cast<int>(threadIdx.x);
        const bool valid = row < rows;
        const bool first = valid && (row == 0 || sequences[row - 1] != sequences[row]);
        const bool last = valid && (row + 1 == rows || sequences[row + 1] != sequences[row]);
        int before, all;
        count_flags(first && last, before, all);
        const bool lone = first && last && lone_rows + before < most_lone;
        if (lone) plan.lone[lone_rows + before] = row;
        lone_rows = min(lone_rows + all, most_lone);

        const bool begins = valid && !lone && (first || row % tokens == 0);
        const bool ends = valid && !lone && (last || (row + 1) % tokens == 0);
        count_flags(begins, before, all);
        if (begins) plan.tiles[tiles + before].x = row;
        if (ends) plan.tiles[tiles + before - (begins ? 0 : 1)].y = row + 1;
        tiles += all;
    }
    if (threadIdx.x == 0) *plan.counts = {tiles, lone_rows, 0};
}

}  // namespace octavo::cuda
