#include <algorithm>
#include <map>

#include "passes/fuse.h"
#include "passes/rewriter.h"
#include "passes/simplify.h"
#include "recipes/recipe.h"
#include "recipes/scales.h"

namespace octavo {
namespace {

std::string working_name(Dtype dtype, std::string_view weight) {
    return fmt::format("work.{}/{}", name(dtype), weight);
}

bool is_master(const Load& load) { return load.name.find('/') == std::string::npos; }

// Matrices as products and embeddings read them; norm weights and biases stay f32 masters.
bool reads_working_copy(const Op& op) {
    return std::holds_alternative<Matmul>(op) || std::holds_alternative<Embedding>(op);
}

// Recipe pass 1: activations in the compute dtype. Types follow from the weights: the pass only
// swaps master weights for working copies (or masters of that dtype) and lets the ops' type rules
// do the rest.
Graph lower(const Graph& g, Dtype compute, Dtype master) {
    if (compute == Dtype::f32) return g;
    const Matcher match(g);
    const bool copies = master != compute;
    Rewriter rewrite(g);
    std::map<std::int32_t, Value> working;  // by the old Load's value
    const auto operand = [&](const Node& n, Value v) {
        const Node& source = match.producer(v);
        const auto* load = std::get_if<Load>(&source.op);
        if (!copies || !load || !is_master(*load) || !reads_working_copy(n.op)) return rewrite(v);
        Value& copy = working[v.id];
        if (!copy) {
            const std::string label = rewrite.b.label();
            rewrite.b.set_label("");
            copy = rewrite.b.load(working_name(compute, load->name), {compute, load->type.shape});
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
            matmul->out = rewrite.b.dtype(in[0]);
        }
        if (auto* load = std::get_if<Load>(&op)) {
            if (load->name.starts_with("kv/")) load->type.dtype = compute;
            if (is_master(*load) && is_matrix(n)) load->type.dtype = master;
        }
        rewrite.keep(n, op, std::move(in));
    }
    return remove_dead(rewrite.finish());
}

// Recipe pass 2: the operands of the Linear layers' products in their formats.
class Quantiser {
  public:
    Quantiser(const Recipe& recipe, const Graph& g, bool training)
        : recipe_(recipe), g_(g), training_(training), rewrite_(g) {}

    Graph run() {
        for (const Node& n : g_.nodes()) {
            const auto* matmul = std::get_if<Matmul>(&n.op);
            if (!matmul || !quantised(n, *matmul)) {
                rewrite_.keep(n);
                continue;
            }
            rewrite_.stand_at(n);
            Matmul op = *matmul;
            const Values in{operand(n, n.in[0], op.trans_a, false),
                            operand(n, n.in[1], op.trans_b, true)};
            rewrite_.keep(n, op, in);
        }
        return remove_dead(rewrite_.finish());
    }

  private:
    bool quantised(const Node& n, const Matmul& op) const {
        if (op.kind == MatmulKind::plain) return false;
        return recipe_.quantise_head || !n.label.ends_with("lm_head");
    }

    // What an operand is follows from where it was made: weights are loaded, activations come from
    // the forward part, output gradients from the backward part.
    // Scales that run along rows run along K: then an operand that is not contiguous along it, as
    // it is with `transposed` = `along_k`, is turned around before it is quantised.
    Value operand(const Node& n, Value v, bool& transposed, bool along_k) {
        const Node& source = g_.node(g_.producer(v));
        if (const auto* load = std::get_if<Load>(&source.op)) {
            return recipe_.weight ? weight(n, v, *load) : rewrite_(v);
        }
        const bool forward = source.phase == Phase::forward;
        const auto& format = forward ? recipe_.activation : recipe_.output_grad;
        if (!format) return rewrite_(v);
        const bool turn = scales_along_rows(scaling_of(*format)) && transposed != along_k;
        if (turn) transposed = along_k;
        Value& q = quantised_[{v.id, turn}];
        if (!q) {
            const Value x = turn ? rewrite_.b.one(Transpose{}, {rewrite_(v)}) : rewrite_(v);
            q = quantise(*format, x, n.label + (forward ? ".x" : ".dy"));
        }
        return q;
    }

    Value weight(const Node& n, Value v, const Load& load) {
        Value& q = quantised_[{v.id, false}];
        if (q) return q;
        const Type type{recipe_.weight->dtype, load.type.shape, scaling_of(*recipe_.weight)};
        check_tiles(n, type);
        const std::string_view master = std::string_view(load.name).substr(load.name.find('/') + 1);
        return q = rewrite_.b.load(working_name(type.dtype, master), type);
    }

    // Tensor cores take sixteen codes at a time, which one scale per tensor lets us do without.
    void check_tiles(const Node& n, const Type& weight) const {
        const bool fine =
            has_fine_scales(weight) ||
            (recipe_.activation && scales_along_rows(scaling_of(*recipe_.activation)));
        for (int i = 0; fine && i < weight.shape.rank(); ++i) {
            if (weight.shape[i] % 16 == 0) continue;
            fail_usage(
                "'{}': recipe {} needs features in multiples of 16, got a weight of {}\n"
                "  Change the model's sizes, or take a recipe with one scale per tensor.",
                n.label, recipe_.name, to_string(weight.shape));
        }
    }

    Value quantise(const Format& format, Value x, const std::string& slot) {
        const ScaledValue result = emit_quantise(rewrite_.b, format, x, slot, recipe_.window);
        if (training_) {
            for (const auto& [name, left] : result.stores) rewrite_.b.store(name, left);
        }
        return result.value;
    }

    const Recipe& recipe_;
    const Graph& g_;
    bool training_;
    Rewriter rewrite_;
    std::map<std::pair<std::int32_t, bool>, Value> quantised_;  // by old value, and its transpose
};

}  // namespace

Graph apply(const Recipe& recipe, const Graph& step, bool training) {
    Graph g = lower(step, recipe.compute, recipe.states.master);
    if (recipe.activation || recipe.weight || recipe.output_grad) {
        g = Quantiser(recipe, g, training).run();
    }
    return merge_equal(g);
}

std::vector<WorkingWeight> working_weights(const Graph& applied) {
    std::vector<WorkingWeight> found;
    for (const Node& n : applied.nodes()) {
        const auto* load = std::get_if<Load>(&n.op);
        if (!load || !load->name.starts_with("work.")) continue;
        found.push_back({load->name, load->name.substr(load->name.find('/') + 1), load->type});
    }
    return found;
}

namespace {

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

}  // namespace

void refresh_working_weight(Builder& b, const Recipe& recipe, const WorkingWeight& w, Value master,
                            const Refresh& refresh) {
    const auto scope = b.scope(w.state);
    if (w.type.scaling == kUnscaled) {
        b.store(w.state, b.cast(master, w.type.dtype));
        return;
    }
    if (!recipe.weight) fail("{}: recipe {} quantises no weights", w.state, recipe.name);
    const Format& format = *recipe.weight;
    if (w.type.scaling != kPerTensor) {
        // From the copy that a 16-bit reader of this weight would see.
        b.store(w.state, emit_blocks(b, format, b.cast(master, recipe.compute)));
        return;
    }
    const Value previous = refresh.kind == Refresh::Kind::first
                               ? b.constant({Dtype::f32, {1}}, 1.0)
                               : b.one(ScaleOf{}, {b.load(w.state, w.type)});
    const Value amax = format.provider == Provider::predicted
                           ? predicted_amax(b, recipe, w, master, refresh)
                           : b.one(Amax{}, {master});
    b.store(w.state, emit_scaled(b, format, master, amax, previous));
}

bool predicts_scales(const Recipe& recipe) {
    return recipe.weight && recipe.weight->provider == Provider::predicted;
}

Graph refresh_graph(const Recipe& recipe, const Graph& applied) {
    Graph g;
    Builder b(g);
    b.set_phase(Phase::update);
    for (const WorkingWeight& w : working_weights(applied)) {
        const Value master = b.load(w.weight, state_type(recipe.states.master, w.type.shape));
        refresh_working_weight(b, recipe, w, master, {});
    }
    return merge_equal(g);
}

}  // namespace octavo
