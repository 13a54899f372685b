#include "exchange/owners.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/error.h"

namespace octavo {

std::int64_t Owners::largest_load() const { return *std::ranges::max_element(load); }

Owners assign_owners(std::span<const std::int64_t> sizes, int ranks) {
    check(ranks >= 1, "owners: expected at least one rank, got {}", ranks);
    std::vector<std::size_t> order(sizes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::greater{}, [&](std::size_t i) { return sizes[i]; });
    Owners owners{std::vector<int>(sizes.size()),
                  std::vector<std::int64_t>(static_cast<std::size_t>(ranks))};
    for (const std::size_t tensor : order) {
        const auto least = std::ranges::min_element(owners.load);  // the first of equals
        *least += sizes[tensor];
        owners.owner[tensor] = static_cast<int>(least - owners.load.begin());
    }
    return owners;
}

}  // namespace octavo
