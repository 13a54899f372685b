// Recompute: backward nodes read fresh copies of forward values instead of keeping them alive.
#pragma once

#include <string_view>

#include "graph/graph.h"

namespace octavo {

enum class Recompute : std::uint8_t {
    none,
    norms,  // outputs of norms
    ffn,    // and all between the norm before an MLP and its last product
    block,  // all of a layer but its input
};

Recompute recompute_named(std::string_view text);

// Copies run the same kernels on the same inputs, so results stay equal bit for bit.
Graph recompute(const Graph&, Recompute);

}  // namespace octavo
