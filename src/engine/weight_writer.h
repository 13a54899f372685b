// Weights of generation, in the formats that the recipe's products read, without the masters that
// training keeps.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "models/model.h"
#include "models/weights.h"
#include "recipes/recipe.h"
#include "runtime/program.h"

namespace octavo {

// Called with all parameters of a model; gives each its values, once (load_weights does).
using WeightSource = std::function<void(std::span<const WeightTarget>)>;

// Weights in `working` become what the trainer's first refresh would make of the same masters, the
// same codes and scales, joined ones (passes/join_products.h) too; the others are copied as they
// are. Its plans and their memory, room for one weight of each shape, are there from the start.
class WeightWriter {
  public:
    // `parameters` are the model's.
    WeightWriter(Backend&, const Recipe&, std::span<const Parameter> parameters,
                 std::span<const WorkingWeight> working);
    ~WeightWriter();

    // Into `state`, where it is. Values that are not finite are an Error that names parameter and
    // index; so are those of another size than the parameter's, and a parameter left out.
    void write(State& state, const WeightSource&);

  private:
    struct Place;
    class Caster;

    Backend& backend_;
    std::vector<Place> places_;
    std::unique_ptr<Caster> caster_;
};

}  // namespace octavo
