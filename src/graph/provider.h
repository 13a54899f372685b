// Where the scales of a graph's tensors come from, read off the graph itself, for whoever looks at
// one.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "graph/graph.h"

namespace octavo {

// By the names of State tensors under a scale, or scales themselves: the provider they were last
// written with.
using StoredProviders = std::map<std::string, std::string_view, std::less<>>;

// The scale provider (as in recipes/recipe.h, and `propagated`) of a tensor under scales, or of
// 8-bit codes without one in their type; empty for all others:
//     current      amax of this very tensor, or of its rows, blocks or groups
//     delayed      maximum over a window of past amaxes
//     predicted    a bound on how far the optimizer can have moved it
//     propagated   scales of the operands, by the op's scale rule, or that of the initialisation
//     recorded     amax of the time when it was written to State
// A tensor that is only moved has that of its source. What State holds under a predicted or
// propagated scale counts as recorded unless `stored` tells.
std::string_view scale_provider(const Graph&, Value, const StoredProviders& stored = {});

// What the Stores of a graph leave in State.
void note_stores(const Graph&, StoredProviders& stored);

// Texts of a graph with all of them: `%2: e4m3[2, 4] x tensor (delayed) = ...`.
std::string to_text(const Graph&, const StoredProviders& stored);
std::string to_graphviz(const Graph&, const StoredProviders& stored);

}  // namespace octavo
