#include "models/experts.h"

#include <fmt/core.h>

namespace octavo {
namespace {

constexpr std::string_view kExperts = ".mlp.experts.";

}  // namespace

bool is_expert_stack(std::string_view name, const Shape& shape) {
    return shape.rank() == 3 && name.find(kExperts) != std::string_view::npos;
}

std::string expert_name(std::string_view stack, std::int64_t expert) {
    const std::size_t at = stack.find(kExperts) + kExperts.size();
    return fmt::format("{}{}.{}", stack.substr(0, at), expert, stack.substr(at));
}

std::vector<StoredParameter> stored_parameters(const std::string& name, const Shape& shape) {
    if (!is_expert_stack(name, shape)) return {{name, shape}};
    std::vector<StoredParameter> all;
    for (std::int64_t e = 0; e < shape[0]; ++e) {
        all.push_back({expert_name(name, e), {shape[1], shape[2]}});
    }
    return all;
}

}  // namespace octavo
