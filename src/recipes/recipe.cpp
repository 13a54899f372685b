#include "recipes/recipe.h"

#include <algorithm>
#include <cmath>

#include "base/layer_name.h"
#include "recipes/table.h"

namespace octavo {
namespace {

constexpr Recipe (*kRecipes[])() = {fp32_recipe,   bf16_recipe,      fp8_lm_recipe,
                                    moss_recipe,   blockwise_recipe, smooth_swiglu_recipe,
                                    scalify_recipe};

}  // namespace

Recipe recipe_named(std::string_view name) {
    std::string known;
    for (const auto make : kRecipes) {
        if (Recipe r = make(); r.name == name) return r;
        known += (known.empty() ? "" : ", ") + make().name;
    }
    fail_usage("there is no recipe '{}'\n  Recipes: {}.", name, known);
}

std::vector<std::string> recipe_names() {
    std::vector<std::string> names;
    for (const auto make : kRecipes) names.push_back(make().name);
    return names;
}

Scaling scaling_of(const Format& f) { return {.granularity = f.granularity, .group = f.group}; }

float adam_bound(double beta1, double beta2) {
    const double ratio = beta1 * beta1 / beta2;
    if (!(ratio < 1)) {
        fail_usage(
            "predicted scales need train.beta1^2 < train.beta2, got {} and {}\n"
            "  Nothing bounds AdamW's steps otherwise: take measured scales.",
            beta1, beta2);
    }
    return static_cast<float>((1 - beta1) / std::sqrt((1 - beta2) * (1 - ratio)));
}

Type state_type(Dtype dtype, const Shape& shape) {
    const bool scaled = is_fp8(dtype) || dtype == Dtype::f16;
    return {dtype, shape, scaled ? kPerTensor : kUnscaled};
}

Type state_type(const MomentFormat& f, const Shape& shape) {
    return f.expanded ? Type{f.dtype, shape, kExpanded} : state_type(f.dtype, shape);
}

std::string_view name(const MomentFormat& f) { return f.expanded ? "expanded" : name(f.dtype); }

bool Recipe::quantises(std::string_view layer) const {
    if (!quantise_head && layer.ends_with("lm_head")) return false;
    return std::ranges::none_of(
        in_compute, [&](const std::string& named) { return names_layer(named, layer); });
}

StateFormats Recipe::table_states() const {
    const auto at_least_bf16 = [](const MomentFormat& f) {
        return f.dtype == Dtype::f32 ? Dtype::f32 : Dtype::bf16;
    };
    const Dtype master = states.master == Dtype::bf16 ? Dtype::bf16 : Dtype::f32;
    return {master, Dtype::f32, at_least_bf16(states.m), at_least_bf16(states.v)};
}

ScaleRule Recipe::gradient_rule() const {
    return {states.gradient, weight ? weight->rounding : ScaleRounding::pow2, 0};
}

constexpr std::string_view kWindowRole = "smooth.window/";

std::string_view parameter_of(std::string_view state) { return state.substr(state.find('/') + 1); }

std::string scale_history_name(std::string_view slot) {
    return fmt::format("scale.history/{}", slot);
}
std::string scale_counter_name(std::string_view slot) {
    return fmt::format("scale.counter/{}", slot);
}
std::string scale_bound_name(std::string_view weight) {
    return fmt::format("scale.bound/{}", weight);
}
std::string smooth_factor_name(std::string_view weight) {
    return fmt::format("smooth.factor/{}", weight);
}
std::string smooth_seen_name(std::string_view weight) {
    return fmt::format("smooth.seen/{}", weight);
}
std::string smooth_window_name(std::string_view layer) {
    return fmt::format("{}{}", kWindowRole, layer);
}
std::string smooth_before_name(std::string_view layer) {
    return fmt::format("smooth.before/{}", layer);
}
void turn_windows(Builder& b, const Graph& applied) {
    for (const Node& n : applied.nodes()) {
        const auto* load = std::get_if<Load>(&n.op);
        if (!load || !load->name.starts_with(kWindowRole)) continue;
        const Value window = b.load(load->name, load->type);
        b.store(smooth_before_name(parameter_of(load->name)), window);
        b.store(load->name, b.constant(load->type, 0));
    }
}
std::string moment_bounds_name(std::string_view weight) {
    return fmt::format("scale.moments/{}", weight);
}
std::string scale_value_name(std::string_view slot) { return fmt::format("scale.value/{}", slot); }

}  // namespace octavo
