// Where the rows of experts begin.
#pragma once

#include "graph/graph.h"

namespace octavo {

// The same graph with each expert's rows beginning at a multiple of `rows`, besides what it is
// aligned to already. The rows that this adds are zero, and nothing depends on them.
Graph align_experts(const Graph&, std::int64_t rows);

}  // namespace octavo
