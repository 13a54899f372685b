#include <algorithm>
#include <map>
#include <set>

#include "base/rng.h"
#include "base/weight_blocks.h"
#include "passes/align_experts.h"
#include "passes/fuse.h"
#include "passes/rewriter.h"
#include "passes/simplify.h"
#include "recipes/propagate.h"
#include "recipes/recipe.h"
#include "recipes/scales.h"

namespace octavo {
namespace {

std::string working_name(Dtype dtype, std::string_view weight) {
    return fmt::format("work.{}/{}", name(dtype), weight);
}

constexpr std::string_view kScaleRole = "work.scale/";
constexpr std::string_view kFoldedRole = "work.folded/";

bool is_master(const Load& load) { return load.name.find('/') == std::string::npos; }

// A router's product, which stays in f32, with the master of its weight.
bool is_router(const Op& op) {
    const auto* matmul = std::get_if<Matmul>(&op);
    return matmul && matmul->kind == MatmulKind::plain;
}

// Matrices as products and embeddings read them; norm weights and biases stay f32 masters.
bool reads_working_copy(const Op& op) {
    return (std::holds_alternative<Matmul>(op) && !is_router(op)) ||
           std::holds_alternative<Embedding>(op) || std::holds_alternative<ScaleAlong>(op);
}

// Models tell by Parameter::table which weights are an embedding's or the head's; graphs tell by
// who reads them.
bool reads_table(const Node& n) {
    return std::holds_alternative<Embedding>(n.op) || n.label.ends_with("lm_head");
}
Dtype master_dtype(const Recipe& recipe, const Matcher& match, Value weight) {
    const bool table = std::ranges::any_of(match.readers(weight), [&](std::int32_t reader) {
        return reads_table(match.graph().node(reader));
    });
    return table ? recipe.table_states().master : recipe.states.master;
}

// Of a weight that takes factors of channels: its scale is measured when it is made.
Format folded_format(const Recipe& recipe) {
    Format format = *recipe.weight;
    format.provider = Provider::current;
    return format;
}

// A working copy of what `weight` loads.
Value load_copy(Builder& b, const Recipe& recipe, std::string name, const Type& type,
                const Load& weight) {
    Load load{std::move(name), type};
    if (recipe.propagation) load.exponent = weight.exponent;
    return b.one(load, {});
}

// A weight as its readers see it: data, where it lies under a scale that is propagated.
Value codes(Builder& b, Value weight) {
    return b.type(weight).scaling == kUnscaled ? weight : b.one(Codes{}, {weight});
}

// Before all passes: parameters are as large as they were measured to be.
Graph as_measured(const Graph& g, const Propagation& propagation) {
    if (propagation.exponents.empty()) return g;
    Rewriter rewrite(g);
    for (const Node& n : g.nodes()) {
        Op op = n.op;
        if (auto* load = std::get_if<Load>(&op); load && load->exponent) {
            load->exponent = propagation.exponent_of(load->name, *load->exponent);
        }
        rewrite.keep(n, op);
    }
    return rewrite.finish();
}

// Recipe pass 1: activations in the compute dtype. Types follow from the weights: the pass only
// swaps master weights for working copies (or masters of that dtype) and lets the ops' type rules
// do the rest.
Graph lower(const Graph& g, const Recipe& recipe) {
    const Dtype compute = recipe.compute;
    if (compute == Dtype::f32) return g;
    const Matcher match(g);
    Rewriter rewrite(g);
    std::map<std::int32_t, Value> working;  // by the old Load's value
    const auto operand = [&](const Node& n, Value v) {
        const Node& source = match.producer(v);
        const auto* load = std::get_if<Load>(&source.op);
        if (!load || !is_master(*load) || !reads_working_copy(n.op)) return rewrite(v);
        if (master_dtype(recipe, match, v) == compute) return codes(rewrite.b, rewrite(v));
        Value& copy = working[v.id];
        if (!copy) {
            const std::string label = rewrite.b.label();
            rewrite.b.set_label("");
            const Type type{compute, load->type.shape};
            copy = load_copy(rewrite.b, recipe, working_name(compute, load->name), type, *load);
            rewrite.b.set_label(label);
        }
        return copy;
    };
    const auto is_matrix = [&](const Node& load) {
        return std::ranges::any_of(match.readers(load.out[0]), [&](std::int32_t reader) {
            return reads_working_copy(g.node(reader).op);
        });
    };
    for (const Node& n : g.nodes()) {
        Values in;
        for (Value v : n.in) in.push_back(operand(n, v));
        Op op = n.op;
        if (auto* matmul = std::get_if<Matmul>(&op); matmul && matmul->kind != MatmulKind::wgrad) {
            const bool to_tokens = n.phase == Phase::backward && !matmul->trans_a;
            if (!is_router(op)) matmul->out = rewrite.b.dtype(in[0]);
            if (is_router(op) && to_tokens) matmul->out = compute;
        }
        if (auto* load = std::get_if<Load>(&op)) {
            const bool pool = load->name.starts_with("kv/") && load->type.dtype == Dtype::f32;
            if (pool) load->type.dtype = compute;
            if (is_master(*load) && is_matrix(n)) {
                load->type = state_type(master_dtype(recipe, match, n.out[0]), load->type.shape);
            }
        }
        rewrite.keep(n, op, std::move(in));
    }
    return remove_dead(rewrite.finish());
}

// The Linear layers, by label, that generation does not quantise: those that stay in bf16 in
// exports.
std::set<std::string> kept_by_generation(const Recipe& recipe, const Matcher& match) {
    if (!recipe.whole_blocks || !recipe.weight) return {};
    const bool blocks = recipe.weight->granularity == Granularity::block_128x128;
    std::vector<NamedShape> weights;
    std::multimap<std::string, std::string> labels;  // by weight
    for (const Node& n : match.graph().nodes()) {
        const auto* matmul = std::get_if<Matmul>(&n.op);
        const Node* load = matmul && !is_router(n.op) ? match.producer_as<Load>(n.in[1]) : nullptr;
        if (!load) continue;
        const Load& weight = std::get<Load>(load->op);
        weights.push_back({std::string(parameter_of(weight.name)), weight.type.shape});
        labels.emplace(weights.back().name, n.label);
    }
    const auto stays = [&](const NamedShape& w) {
        const auto [begin, end] = labels.equal_range(w.name);
        const bool named = std::any_of(
            begin, end, [&](const auto& label) { return !recipe.quantises(label.second); });
        return named || (blocks && !has_whole_blocks(w.shape));
    };
    std::set<std::string> kept;
    for (const std::string& weight : with_joined(weights, stays)) {
        const auto [begin, end] = labels.equal_range(weight);
        for (auto at = begin; at != end; ++at) kept.insert(at->second);
    }
    return kept;
}

// Recipe pass 2: the operands of the Linear layers' products in their formats.
class Quantiser {
  public:
    Quantiser(const Recipe& recipe, const Graph& g, bool training)
        : recipe_(recipe),
          g_(g),
          match_(g),
          training_(training),
          kept_(kept_by_generation(recipe, match_)),
          rewrite_(g) {}

    Graph run() {
        for (const Node& n : g_.nodes()) {
            const auto* matmul = std::get_if<Matmul>(&n.op);
            if (!matmul || !quantised(n, *matmul)) {
                note_factors(n, rewrite_.keep(n));
                continue;
            }
            rewrite_.stand_at(n);
            Matmul op = *matmul;
            Values in{operand(n, n.in[0], op.trans_a, false),
                      operand(n, n.in[1], op.trans_b, true)};
            for (std::size_t i = 2; i < n.in.size(); ++i) in.push_back(rewrite_(n.in[i]));
            rewrite_.keep(n, op, std::move(in));
        }
        return remove_dead(rewrite_.finish());
    }

  private:
    bool quantised(const Node& n, const Matmul& op) const {
        if (op.kind == MatmulKind::plain || kept_.contains(n.label)) return false;
        return recipe_.quantises(n.label);
    }

    // The factors that this micro-batch asks for, for the next step or for export.
    void note_factors(const Node& n, const Values& out) {
        const auto* smooth = std::get_if<SmoothSwiGlu>(&n.op);
        if (!training_ || !smooth) return;
        if (recipe_.smooth->export_window > 0) raise(smooth_window_name(n.label), out[1]);
        if (!smooth->given) return;
        const Node* given = match_.producer_as<Load>(n.in[2]);
        check(given, "'{}': factors of the step before are loaded", n.label);
        raise(smooth_seen_name(parameter_of(std::get<Load>(given->op).name)), out[1]);
    }
    // In State, to `factors` where those are larger.
    void raise(const std::string& name, Value factors) {
        Builder& b = rewrite_.b;
        b.store(name, b.one(Maximum{}, {b.load(name, b.type(factors)), factors}));
    }

    // What an operand is follows from where it was made: weights are loaded, activations come from
    // the forward part, output gradients from the backward part.
    // Scales that run along rows run along K: then an operand that is not contiguous along it, as
    // it is with `transposed` = `along_k`, is turned around before it is quantised.
    Value operand(const Node& n, Value v, bool& transposed, bool along_k) {
        const Node& producer = g_.node(g_.producer(v));
        const bool coded = std::holds_alternative<Codes>(producer.op);
        const Node& source = coded ? g_.node(g_.producer(producer.in[0])) : producer;
        if (const auto* load = std::get_if<Load>(&source.op)) {
            if (!recipe_.weight) return rewrite_(v);
            check_tiles(n, {recipe_.weight->dtype, load->type.shape, scaling_of(*recipe_.weight)});
            return recipe_.cache_weights ? weight(v, *load) : cast_weight(v, *load, n);
        }
        if (is_folded_weight(source)) return folded_weight(n, v);
        const bool forward = source.phase == Phase::forward;
        const auto format = forward ? activation(v) : recipe_.output_grad;
        if (!format) return rewrite_(v);
        const bool turn = scales_along_rows(scaling_of(*format)) && transposed != along_k;
        if (turn) transposed = along_k;
        Value& q = quantised_[{v.id, turn}];
        if (!q) {
            const Value x = turn ? rewrite_.b.one(Transpose{}, {rewrite_(v)}) : rewrite_(v);
            q = forward ? quantise(*format, x, n.label + ".x")
                        : quantise(*format, x, n.label + ".dy", randomness(n.label + ".dy"));
        }
        return q;
    }

    std::optional<Format> activation(Value v) const {
        while (const Node* reshape = match_.producer_as<Reshape>(v)) v = reshape->in[0];
        if (!recipe_.smooth || !match_.producer_as<SmoothSwiGlu>(v)) return recipe_.activation;
        return recipe_.smooth->hidden;
    }

    // A weight that takes the factors of an activation's columns.
    bool is_folded_weight(const Node& source) const {
        return std::holds_alternative<ScaleAlong>(source.op) &&
               match_.producer_as<Load>(source.in[0]);
    }

    // Made in this micro-batch, so its scale is measured now; with factors that lie in State, so
    // does its copy.
    Value folded_weight(const Node& n, Value v) {
        if (!recipe_.weight) return rewrite_(v);
        const Format format = folded_format(recipe_);
        const Type type{format.dtype, g_.type(v).shape, scaling_of(format)};
        check_tiles(n, type);
        Value& q = quantised_[{v.id, false}];
        if (q) return q;
        const Node& fold = match_.producer(v);
        if (!match_.producer_as<Load>(fold.in[1])) {
            return q = quantise(format, rewrite_(v), n.label + ".w");
        }
        const auto& weight = std::get<Load>(match_.producer(fold.in[0]).op);
        return q = load_copy(rewrite_.b, recipe_,
                             std::string(kFoldedRole) + std::string(parameter_of(weight.name)),
                             type, weight);
    }

    Value weight(Value v, const Load& load) {
        Value& q = quantised_[{v.id, false}];
        if (q) return q;
        const Type type{recipe_.weight->dtype, load.type.shape, scaling_of(*recipe_.weight)};
        return q = load_copy(rewrite_.b, recipe_, working_name(type.dtype, parameter_of(load.name)),
                             type, load);
    }

    // Tensor cores take sixteen codes at a time, which one scale per tensor lets us do without.
    void check_tiles(const Node& n, const Type& weight) const {
        const bool fine =
            has_fine_scales(weight) ||
            (recipe_.activation && scales_along_rows(scaling_of(*recipe_.activation)));
        // Experts share no blocks: those of one begin where its matrix does.
        const bool experts = weight.shape.rank() == 3;
        const bool blocks = weight.scaling.granularity == Granularity::block_128x128;
        const std::int64_t tile = experts && blocks ? kScaleBlock : 16;
        for (const int i : {-2, -1}) {
            if (!fine || weight.shape[i] % tile == 0) continue;
            fail_usage(
                "'{}': recipe {} needs features in multiples of {}, got a weight of {}\n"
                "  Change the model's sizes, or take a recipe with one scale per tensor.",
                n.label, recipe_.name, tile, to_string(weight.shape));
        }
    }

    // Forward and backward each cast for themselves, so that no codes outlive a layer. Those of the
    // head follow each other, and fuse if they read the same value.
    Value cast_weight(Value v, const Load& load, const Node& reader) {
        Value& q = cast_[{v.id, reads_table(reader) ? Phase::forward : reader.phase}];
        if (q) return q;
        check(recipe_.weight->granularity == Granularity::tensor,
              "recipe {}: only weights under one scale are cast in every pass", recipe_.name);
        Builder& b = rewrite_.b;
        const std::string master(parameter_of(load.name));
        const Dtype dtype = master_dtype(recipe_, match_, v);
        const Value scale = b.load(std::string(kScaleRole) + master, {Dtype::f32, {1}});
        const Value w = b.load(master, state_type(dtype, load.type.shape));
        return q = b.one(Quantise{recipe_.weight->dtype}, {w, scale});
    }

    // Of an output gradient's cast: no two casts of a run share random numbers.
    std::optional<Randomness> randomness(const std::string& slot) {
        if (!training_ || !recipe_.gradient_noise) return {};
        if (!draw_) draw_ = rewrite_.b.input(kDrawInput, {Dtype::i32, {1}});
        const auto tensor = static_cast<std::uint32_t>(random_stream("round/" + slot));
        return Randomness{{*recipe_.gradient_noise, tensor}, draw_};
    }

    Value quantise(const Format& format, Value x, const std::string& slot,
                   const std::optional<Randomness>& random = {}) {
        const ScaledValue result =
            emit_quantise(rewrite_.b, format, x, slot, recipe_.window, random);
        if (training_) {
            for (const auto& [name, left] : result.stores) rewrite_.b.store(name, left);
        }
        return result.value;
    }

    const Recipe& recipe_;
    const Graph& g_;
    Matcher match_;
    bool training_;
    std::set<std::string> kept_;  // labels of layers that generation does not quantise
    Rewriter rewrite_;
    std::map<std::pair<std::int32_t, bool>, Value> quantised_;  // by old value, and its transpose
    std::map<std::pair<std::int32_t, Phase>, Value> cast_;
    Value draw_;
};

}  // namespace

int Propagation::exponent_of(std::string_view parameter, int initial) const {
    const auto measured = exponents.find(parameter);
    return measured == exponents.end() ? initial : measured->second;
}

Graph apply(const Recipe& recipe, const Graph& step, bool training) {
    Graph g = lower(recipe.propagation ? as_measured(step, *recipe.propagation) : step, recipe);
    // Scales along the rows of experts, as their weight gradients have them, are of one expert
    // each.
    const auto along_rows = [](const std::optional<Format>& f) {
        return f && scales_along_rows(scaling_of(*f));
    };
    if (along_rows(recipe.activation) || along_rows(recipe.output_grad)) {
        g = align_experts(g, kScaleBlock);
    }
    if (recipe.activation || recipe.weight || recipe.output_grad) {
        g = Quantiser(recipe, g, training).run();
    }
    if (recipe.propagation) g = propagate(g, *recipe.propagation);
    return merge_equal(g);
}

std::vector<WorkingWeight> working_weights(const Recipe& recipe, const Graph& applied) {
    const Matcher match(applied);
    std::vector<WorkingWeight> found;
    std::set<std::string_view> names;
    for (const Node& n : applied.nodes()) {
        const auto* load = std::get_if<Load>(&n.op);
        if (!load || !load->name.starts_with("work.") || !names.insert(load->name).second) continue;
        const Value v = n.out[0];
        Type master = state_type(master_dtype(recipe, match, v), load->type.shape);
        if (load->name.starts_with(kScaleRole)) {
            const Node& cast = applied.node(match.readers(v)[0]);
            master = applied.type(cast.in[0]);
        }
        found.push_back({load->name, std::string(parameter_of(load->name)), load->type, master,
                         load->exponent});
    }
    return found;
}

namespace {

// master / 2^exponent, which is the scale of a master that has one.
Value divided(Builder& b, const Recipe& recipe, Value master, int exponent, Dtype to) {
    const bool nan_casts = recipe.propagation && recipe.propagation->scales.nan_casts;
    if (b.type(master).scaling == kUnscaled) {
        return cast_data(b, Cast{.to = to, .exponent = -exponent}, master, nan_casts);
    }
    const Value data = b.one(Codes{}, {master});
    return b.dtype(data) == to ? data : cast_data(b, Cast{.to = to}, data, nan_casts);
}

// The amax that a predicted scale goes by.
Value predicted_amax(Builder& b, const Recipe& recipe, const WorkingWeight& w, Value master,
                     const Refresh& refresh) {
    const std::string name = scale_bound_name(w.weight);
    const bool moves = refresh.kind == Refresh::Kind::predicted;
    const Value amax =
        moves ? b.one(PredictAmax{recipe.prediction.bound},
                      {b.load(name, {Dtype::f32, {1}}), refresh.schedule, refresh.factor})
              : b.one(Amax{}, {master});
    b.store(name, amax);
    return amax;
}

Value cast_master(Builder& b, const Recipe& recipe, const WorkingWeight& w, Value master,
                  Dtype to) {
    if (w.exponent) return divided(b, recipe, master, *w.exponent, to);
    const bool scaled = b.type(master).scaling != kUnscaled;
    return scaled ? b.one(Dequantise{to}, {master}) : b.cast(master, to);
}

// A tensor of State with a factor for each channel of a folded weight.
Value load_factors(Builder& b, const WorkingWeight& w, const std::string& name) {
    return b.load(name, {Dtype::f32, {w.type.shape.last()}});
}

Value fold(Builder& b, const Recipe& recipe, const WorkingWeight& w, Value master, Value factors) {
    return b.one(ScaleAlong{Axis::column},
                 {cast_master(b, recipe, w, master, recipe.compute), factors});
}

// With the factors of the step that ends, where there is one, which become those of the next.
void refresh_folded(Builder& b, const Recipe& recipe, const WorkingWeight& w, Value master,
                    Refresh::Kind kind) {
    const bool first = kind == Refresh::Kind::first;
    const std::string name = smooth_factor_name(w.weight), seen = smooth_seen_name(w.weight);
    const Value factors = load_factors(b, w, first ? name : seen);
    const Value folded = fold(b, recipe, w, master, factors);
    b.store(w.state, emit_quantise(b, folded_format(recipe), folded, w.state, 1).value);
    if (first) return;
    b.store(name, factors);
    b.store(seen, b.constant(b.type(factors), 0));
}

}  // namespace

Value cast_source(Builder& b, const Recipe& recipe, const WorkingWeight& w, Value master) {
    if (w.state.starts_with(kFoldedRole)) {
        return fold(b, recipe, w, master, load_factors(b, w, smooth_factor_name(w.weight)));
    }
    if (has_fine_scales(w.type)) return cast_master(b, recipe, w, master, recipe.compute);
    return w.exponent ? divided(b, recipe, master, *w.exponent, b.dtype(master)) : master;
}

void refresh_working_weight(Builder& b, const Recipe& recipe, const WorkingWeight& w, Value master,
                            const Refresh& refresh) {
    const auto scope = b.scope(w.state);
    const bool scale_alone = w.state.starts_with(kScaleRole);
    if (w.type.scaling == kUnscaled && !scale_alone) {
        b.store(w.state, cast_master(b, recipe, w, master, w.type.dtype));
        return;
    }
    if (!recipe.weight) fail("{}: recipe {} quantises no weights", w.state, recipe.name);
    if (w.state.starts_with(kFoldedRole)) return refresh_folded(b, recipe, w, master, refresh.kind);
    const Format& format = *recipe.weight;
    if (has_fine_scales(w.type)) {
        b.store(w.state, emit_blocks(b, format, cast_source(b, recipe, w, master)));
        return;
    }
    const auto previous = [&] {
        if (refresh.kind == Refresh::Kind::first) return b.constant({Dtype::f32, {1}}, 1.0);
        const Value old = b.load(w.state, w.type);
        return scale_alone ? old : b.one(ScaleOf{}, {old});
    };
    const Value amax = format.provider == Provider::predicted
                           ? predicted_amax(b, recipe, w, master, refresh)
                           : b.one(Amax{}, {master});
    const Value scale = emit_scale(b, format, amax, previous());
    b.store(w.state, scale_alone ? scale : b.one(Quantise{format.dtype}, {master, scale}));
}

bool predicts_scales(const Recipe& recipe) {
    return recipe.weight && recipe.weight->provider == Provider::predicted;
}

Graph refresh_graph(const Recipe& recipe, const Graph& applied) {
    Graph g;
    Builder b(g);
    b.set_phase(Phase::update);
    for (const WorkingWeight& w : working_weights(recipe, applied)) {
        const Value master = b.one(Load{w.weight, w.master, w.exponent}, {});
        refresh_working_weight(b, recipe, w, master, {});
    }
    return merge_equal(g);
}

}  // namespace octavo
