// The name that a misspelt one most likely stands for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace octavo {

// The candidate with the least edit distance from `name` (insertion, deletion, substitution and
// swap of neighbours cost 1 each), or an empty string if none is near: the distance must be at most
// a third of the longer name, rounded up. The first of several equally near ones wins.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace octavo
