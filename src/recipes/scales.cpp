#include "recipes/scales.h"

#include <set>

#include "ops/delayed_quantise.h"

namespace octavo {
namespace {

ScaleRule rule_of(const Format& f) { return {f.dtype, f.rounding, f.margin}; }

Type history_type(int window) { return {Dtype::f32, {window}}; }
const Type kCounterType{Dtype::i32, {1}};
const Type kScaleType{Dtype::f32, {1}};

Value emit_cast(Builder& b, const Format& format, Value x, Value scale,
                const std::optional<Randomness>& random) {
    if (!random) return b.one(Quantise{format.dtype}, {x, scale});
    return b.one(Quantise{.to = format.dtype, .noise = random->noise}, {x, scale, random->draw});
}

ScaledValue emit_delayed(Builder& b, const Format& format, Value x, const std::string& slot,
                         int window, const std::optional<Randomness>& random) {
    const Value history = b.load(scale_history_name(slot), history_type(window));
    const Value counter = b.load(scale_counter_name(slot), kCounterType);
    const Value scale = b.load(scale_value_name(slot), kScaleType);
    if (random) {
        const Value amax = b.one(Amax{}, {x});
        const Values next = b.emit(DelayedScale{rule_of(format)}, {amax, history, counter, scale});
        return {emit_cast(b, format, x, next[0], random), {{scale_history_name(slot), next[1]}}};
    }
    const Values out = b.emit(DelayedQuantise{rule_of(format)}, {x, history, counter, scale});
    return {out[0], {{scale_history_name(slot), out[1]}}};
}

}  // namespace

Value emit_scale(Builder& b, const Format& format, Value amax, Value previous) {
    return b.one(ComputeScale{rule_of(format)}, {amax, previous});
}

Value emit_blocks(Builder& b, const Format& format, Value x) {
    return b.one(BlockQuantise{.to = format.dtype,
                               .scaling = scaling_of(format),
                               .rounding = format.rounding,
                               .rule = format.block_rule,
                               .floor = format.floor,
                               .global = format.global},
                 {x});
}

ScaledValue emit_quantise(Builder& b, const Format& format, Value x, const std::string& slot,
                          int window, const std::optional<Randomness>& random) {
    check(!random || format.granularity == Granularity::tensor,
          "'{}': only codes under one scale are rounded at random", slot);
    if (format.granularity == Granularity::none) return {b.cast(x, format.dtype), {}};
    const bool fine = format.granularity != Granularity::tensor;
    check(!fine || format.provider == Provider::current,
          "'{}': scales per row or block follow from the tensor itself, now", slot);
    switch (format.provider) {
        case Provider::delayed:
            return emit_delayed(b, format, x, slot, window, random);
        case Provider::current: {
            if (fine) return {emit_blocks(b, format, x), {}};
            // Codes saturate: of what is not finite the scale is NaN, for the step to be skipped.
            const Value amax = b.one(Amax{}, {x}), guard = b.one(Guard{}, {amax});
            return {emit_cast(b, format, x, emit_scale(b, format, amax, guard), random), {}};
        }
        case Provider::recorded:
        case Provider::predicted:
            break;
    }
    fail(
        "'{}': a recorded or predicted scale is for weights, which are quantised when they are "
        "written",
        slot);
}

std::vector<DelayedState> delayed_states(const Graph& applied) {
    std::vector<DelayedState> found;
    std::set<std::string> slots;
    const std::string stem = scale_history_name("");
    const auto note = [&](Value history, const ScaleRule& rule) {
        const auto* load = std::get_if<Load>(&applied.node(applied.producer(history)).op);
        check(load && load->name.starts_with(stem), "a delayed scale reads no history");
        std::string slot = load->name.substr(stem.size());
        if (slots.insert(slot).second) found.push_back({std::move(slot), rule});
    };
    for (const Node& n : applied.nodes()) {
        if (const auto* fused = std::get_if<DelayedQuantise>(&n.op)) {
            for (std::size_t k = 0; k < quantised_results(fused->of); ++k) {
                note(n.in[history_operand(n.in.size(), k)], fused->rule);
            }
        } else if (const auto* scale = std::get_if<DelayedScale>(&n.op)) {
            note(n.in[1], scale->rule);
        } else if (const auto* head = std::get_if<HeadLoss>(&n.op); head && head->quantise) {
            note(n.in[5], *head->quantise);
        }
    }
    return found;
}

Value load_history(Builder& b, const Recipe& recipe, const DelayedState& state) {
    return b.load(scale_history_name(state.slot), history_type(recipe.window));
}

void advance_delayed_state(Builder& b, const Recipe& recipe, const DelayedState& state) {
    const auto scope = b.scope(state.slot);
    const Value history = load_history(b, recipe, state);
    const Value counter = b.load(scale_counter_name(state.slot), kCounterType);
    const Value scale = b.load(scale_value_name(state.slot), kScaleType);
    const Values next = b.emit(AdvanceScale{state.rule}, {history, counter, scale});
    b.store(scale_history_name(state.slot), next[0]);
    b.store(scale_counter_name(state.slot), next[1]);
    b.store(scale_value_name(state.slot), next[2]);
}

}  // namespace octavo
