// Passes that change what is computed twice or never, but no value.
#pragma once

#include "graph/graph.h"

namespace octavo {

// Drops nodes whose results nobody reads. Stores and outputs count as readers; inputs stay.
Graph remove_dead(const Graph&);

// Merges nodes with equal op, operands and phase.
Graph merge_equal(const Graph&);

// Replaces every fused op by its definition (Rules::decompose), as `fuse = off` asks for.
Graph decompose_all(const Graph&);

}  // namespace octavo
