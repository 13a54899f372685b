#include "base/nearest.h"

#include <algorithm>
#include <utility>

namespace octavo {
namespace {

// Optimal string alignment distance, three rows of the table at a time.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::swap(before, last);
        std::swap(last, row);
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, change});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = std::min(row[j], before[j - 2] + 1);
            }
        }
    }
    return row[b.size()];
}

}  // namespace

std::string nearest(std::string_view name, const std::vector<std::string>& candidates) {
    // Nothing that long is a misspelling, and the table is quadratic.
    if (name.size() > 100) {
        return {};
    }
    std::string best;
    std::size_t best_distance = name.size() + 1;
    for (const std::string& candidate : candidates) {
        const auto [shorter, longer] = std::minmax({name.size(), candidate.size()});
        const std::size_t limit = (longer + 2) / 3;
        if (longer - shorter > limit) {
            continue;  // as many insertions at least; names from files may be of any length
        }
        const std::size_t d = distance(name, candidate);
        if (d <= limit && d < best_distance) {
            best = candidate;
            best_distance = d;
        }
    }
    return best;
}

}  // namespace octavo
