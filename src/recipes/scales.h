// Scale providers: where the scale of a quantised tensor comes from.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "recipes/recipe.h"

namespace octavo {

// A quantised value, and the State it wants to leave behind.
struct ScaledValue {
    Value value;
    std::vector<std::pair<std::string, Value>> stores;
};

// Quantises `x` as `format` says. `slot` names the tensor in the State of delayed scales.
ScaledValue emit_quantise(Builder&, const Format&, Value x, const std::string& slot, int window);

// Scale from the amax of `x` itself; `previous` is kept when that amax is no basis for one.
Value emit_scale(Builder&, const Format&, Value x, Value previous);
// `x` quantised with it.
Value emit_current(Builder&, const Format&, Value x, Value previous);

}  // namespace octavo
