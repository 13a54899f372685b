// The order of execution, where the data leaves a choice.
#pragma once

#include "graph/graph.h"

namespace octavo {

// Moves every Store, and the last nodes that lead to nothing but a Store, to the earliest place:
// gradients are accumulated as soon as they exist, so their operands can die.
Graph store_early(const Graph&);

}  // namespace octavo
