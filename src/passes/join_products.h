// Products of the same rows with several weights as one product: q, k and v, or gate and up, where
// generation has few rows and pays for each product that it starts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace octavo {

// Each group of products x w^T that read the same x and weights of one format from `work.*` State
// reads one weight instead, `work.*/a+b+c` for the parameters a, b, c, their rows one after the
// other; a Split gives the results. Weights under one scale each, and blocks that would lie across
// two weights, are left alone. Values do not change.
Graph join_products(const Graph&);

// The parameters in the name of a joined weight; a plain one is its own only part.
std::vector<std::string> joined_parts(std::string_view parameter);

}  // namespace octavo
