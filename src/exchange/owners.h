// Which rank owns which tensor under ZeRO-1 and ZeRO-2 (FP8-LM, arXiv 2310.18313, Algorithm 1).
// Tensors are never split, since each has one scale: by size, the largest first, each goes to the
// rank with the least so far. Among equals the lower tensor comes first, and the lower rank.
//
// Balance is that of whole tensors: where a rank has few, the largest load may be a third above the
// mean.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace octavo {

struct Owners {
    std::vector<int> owner;          // of each tensor
    std::vector<std::int64_t> load;  // of each rank: the sum of its tensors' sizes

    // What gathers of all ranks' tensors in equal parts are padded to.
    std::int64_t largest_load() const;
};

Owners assign_owners(std::span<const std::int64_t> sizes, int ranks);

}  // namespace octavo
