// "Did you mean": the name a user probably wanted.
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace octavo {

// Levenshtein distance in bytes.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row[b.size()];
}

// The element of `names` nearest to `name`, the first of equals; empty if there is none.
// Names come from files: over-long ones are passed over, to keep the error message quick.
template <class Names, class NameOf>
std::string nearest(std::string_view name, const Names& names, NameOf name_of) {
    constexpr std::size_t kLongest = 256;
    std::string best;
    std::size_t least = std::numeric_limits<std::size_t>::max();
    if (name.size() > kLongest) return best;
    for (const auto& element : names) {
        const std::string_view candidate = name_of(element);
        if (candidate.size() > kLongest) continue;
        if (const std::size_t d = edit_distance(name, candidate); d < least) {
            least = d;
            best = candidate;
        }
    }
    return best;
}

}  // namespace octavo
