// Operands of FP8 products, laid out as tensor cores read them.
#pragma once

#include "graph/graph.h"

namespace octavo {

// Gives products of two FP8 operands transposed copies of those that are not contiguous along the
// sum, so that each is a (M, K) times b (N, K)^T. Copies of one value are shared. (8-bit wgmma
// reads shared memory K-major only.)
Graph k_major(const Graph&);

}  // namespace octavo
