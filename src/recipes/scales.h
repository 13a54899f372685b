// Scale providers: where the scale of a quantised tensor comes from.
#pragma once

#include <optional>
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

// How a cast rounds up or down at random.
struct Randomness {
    CastNoise noise;
    Value draw;
};

// Quantises `x` as `format` says. `slot` names the tensor in the State of delayed scales. Only a
// cast by itself, under one scale, rounds at random.
ScaledValue emit_quantise(Builder&, const Format&, Value x, const std::string& slot, int window,
                          const std::optional<Randomness>& = {});

// One scale from `amax`; `previous` is kept when that is no basis for one.
Value emit_scale(Builder&, const Format&, Value amax, Value previous);
// Scales per row, block or group from `x` itself.
Value emit_blocks(Builder&, const Format&, Value x);

}  // namespace octavo
