// How experts are stored: State has one tensor (E, N, K) for all experts of a projection,
//     model.layers.0.mlp.experts.up_proj.weight
// and Hugging Face folders, checkpoints among them, have a matrix (N, K) for each,
//     model.layers.0.mlp.experts.7.up_proj.weight
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/shape.h"

namespace octavo {

bool is_expert_stack(std::string_view name, const Shape&);
std::string expert_name(std::string_view stack, std::int64_t expert);

// A parameter as folders have it: itself, or each matrix of a stack, in the order of the experts.
struct StoredParameter {
    std::string name;
    Shape shape;
};
std::vector<StoredParameter> stored_parameters(const std::string& name, const Shape&);

}  // namespace octavo
