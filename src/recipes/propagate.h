// Scale propagation over a whole step (Scalify, arXiv 2407.17353): the graph computes on data,
// scales follow from shapes and from how parameters are initialised.
#pragma once

#include "recipes/recipe.h"

namespace octavo {

// Every op by its rule (graph/scaled.h). Inputs and what State holds are values, but for
//     work.<dtype>/..., and parameters under one scale    codes; their scale is Load::exponent
//     grad/<parameter>                     data; its scale is stored and loaded as grad.scale/...
//     kv/...                               data, whose scale does not change
// Outputs are values. Gradients that a norm adds to the residual stream's are measured, and the sum
// takes the scale that suits them (Propagation::rescale_norms).
Graph propagate(const Graph&, const Propagation&);

}  // namespace octavo
