// Weights of generation, in the formats that the recipe's products read, without the masters that
// training keeps.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "models/model.h"
#include "models/weights.h"
#include "recipes/recipe.h"
#include "runtime/program.h"

namespace octavo {

// Called with all parameters of a model; gives each its values, once (load_weights does).
using WeightSource = std::function<void(std::span<const WeightTarget>)>;

// Writes weights into `state`: those in `working` as the trainer's first refresh would from the
// same masters, to the same codes and scales, joined ones (passes/join_products.h) too, and those
// that are read as they are. `parameters` are the model's. Values that are not finite are an Error
// that names parameter and index. Memory for one weight of each shape is taken while it runs.
void write_weights(Backend&, const Recipe&, std::span<const Parameter> parameters,
                   std::span<const WorkingWeight> working, State& state, const WeightSource&);

}  // namespace octavo
