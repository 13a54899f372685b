#include "train/step_graphs.h"

#include <algorithm>

#include "base/float8.h"
#include "base/rng.h"
#include "base/stochastic.h"
#include "passes/align_experts.h"
#include "passes/fuse.h"
#include "passes/k_major.h"
#include "passes/schedule.h"
#include "passes/simplify.h"

namespace octavo {
namespace {

// A batch's way to its loss, as the recipe has it.
struct Forward {
    Graph graph;
    Value loss, logits;
    Value router_loss;                                         // none without coefficients
    std::vector<std::pair<std::string, Value>> expert_counts;  // by layer
    std::vector<Parameter> parameters;
    Values weights;  // in their order
};

Forward forward_part(const StepOptions& o, bool training = false) {
    Forward f;
    Builder b(f.graph);
    ModelBuilder m(b, o.architecture);
    const Type tokens{Dtype::i32, {o.batch, o.seq}};
    const Value ids = b.input("ids", tokens), targets = b.input("targets", tokens);
    const Value weight = b.input("weight", {Dtype::f32, {1}});
    if (o.documents) {
        const Value starts = b.input("starts", tokens);
        m.documents = DocumentContext{starts, b.input("positions", tokens)};
    }
    const Value logits = head(m, backbone(m, ids));
    Values values = m.values();
    const std::size_t weights = values.size();
    values.insert(values.end(), {language_model_loss(m, logits, targets, weight), logits});
    for (const Router& r : m.routers) values.push_back(r.counts);
    const bool has_router_loss = o.router_balance != 0 || o.router_z != 0;
    if (training && has_router_loss && !m.routers.empty()) {
        values.push_back(router_loss(m, o.router_balance, o.router_z, weight));
    }
    f.graph = rewrite_forward(o.recipe, f.graph, values);
    f.parameters = m.parameters();
    auto next = values.begin() + static_cast<std::ptrdiff_t>(weights);
    f.weights.assign(values.begin(), next);
    f.loss = *next++;
    f.logits = *next++;
    for (const Router& r : m.routers) f.expert_counts.emplace_back(r.label, *next++);
    if (next != values.end()) f.router_loss = *next;
    return f;
}

// What every graph goes through after its recipe.
Graph finish(const Graph& g, const StepOptions& o, bool measure = false) {
    Graph whole = align_experts(g, o.target.expert_rows);
    if (o.fuse) whole = fuse(whole, o.target, layout_free_fusions());
    if (measure) whole = measure_swiglus(measure_casts(o.recipe, whole));
    const Graph placed = o.target.k_major_fp8 ? k_major(whole) : whole;
    const Graph scheduled = store_early(remove_dead(merge_equal(placed)));
    // Recompute first: it copies single ops, and quantisers whose copies would have to touch no
    // State.
    const Graph all = recompute(scheduled, o.recompute);
    const Graph ready = o.fuse ? fuse(all, o.target) : decompose_all(all);
    // Fused casts run earlier than some of those they stand for: values do not wait to be measured.
    return measure ? store_early(ready) : ready;
}

bool has_scale(const MomentFormat& f) { return state_type(f, {}).scaling == kPerTensor; }

// What gradients are in while micro-batches add to them.
Dtype stored_gradient(const StepOptions& o, const StateFormats& formats) {
    const bool wide = !is_fp8(formats.gradient);
    return wide || !o.accumulates ? formats.gradient : formats.gradient_sum;
}

// Under a scale from its own amax. Codes saturate; so that the norm sees what is not finite, the
// scale is NaN then.
Value quantise_gradient(Builder& b, const Recipe& recipe, Value g) {
    if (recipe.propagation) {
        return cast_data(b, Cast{recipe.states.gradient}, g, recipe.propagation->scales.nan_casts);
    }
    const Value amax = b.one(Amax{}, {g}), guard = b.one(Guard{}, {amax});
    const Value scale = b.one(ComputeScale{recipe.gradient_rule()}, {amax, guard});
    return b.one(Quantise{recipe.gradient_rule().to}, {g, scale});
}

Values joined(Values a, const Values& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// All parameters' gradients in the formats that AdamW reads, and their scales where those are
// propagated.
struct Gradients {
    Values values, scales;
};

Gradients load_gradients(Builder& b, const StepOptions& o, const std::vector<Parameter>& params) {
    const bool propagates = o.recipe.propagation.has_value();
    Gradients g;
    for (const Parameter& p : params) {
        const StateFormats formats = formats_of(o.recipe, p);
        const Dtype stored = stored_gradient(o, formats);
        const std::string name = gradient_name(p.name);
        b.set_label(p.name);
        const Type type = propagates ? Type{stored, p.shape} : state_type(stored, p.shape);
        const Value sum = b.load(name, type);
        g.values.push_back(stored == formats.gradient ? sum : quantise_gradient(b, o.recipe, sum));
        if (propagates) {
            g.scales.push_back(b.load(gradient_scale_name(name), {Dtype::f32, {1}}));
        }
    }
    b.set_label("");
    return g;
}

Value norm_of(Builder& b, const Gradients& g) {
    return b.one(GlobalNorm{.scaled = !g.scales.empty()}, joined(g.values, g.scales));
}

std::string second_moment_name(const AdamW& op, const std::string& parameter) {
    return (op.sqrt_v ? "adam.sqrt_v/" : "adam.v/") + parameter;
}

bool has_codes(const MomentFormat& f) { return is_fp8(f.dtype) && !f.expanded; }

// What casting the next second moment v' does to it, where it has an exact scale or is no root.
// Of roots only `flushed` is meant: sqrt(v') rounds to 0 where v' does to half the square of the
// smallest root, which is the smallest code of E5M2 under the scale taken here.
Value measure_second_moment(Builder& b, const StepOptions& o, const Parameter& p, Value gradient,
                            Value factor) {
    const MomentFormat& format = formats_of(o.recipe, p).v;
    const Type one{Dtype::f32, {1}};
    const auto decoded = [&](Value x) {
        return b.type(x).scaling == kUnscaled ? b.cast(x, Dtype::f32)
                                              : b.one(Dequantise{Dtype::f32}, {x});
    };
    const AdamW& op = o.adamw;
    const Value stored = b.load(second_moment_name(op, p.name), state_type(format, p.shape));
    Value v = decoded(stored);
    if (op.sqrt_v) v = b.mul(v, v);
    const Value g = b.mul(decoded(gradient), factor);
    const Value square = b.mul(b.mul(g, b.constant(one, 1.0f - op.beta2)), g);
    const Value next = b.add(b.mul(v, b.constant(one, op.beta2)), square);
    const Value amax = b.one(Amax{}, {next});
    Dtype to = format.dtype;
    Value scale;
    if (op.sqrt_v) {
        const double code = to == Dtype::e4m3 ? min_subnormal<e4m3>() : min_subnormal<e5m2>();
        const double range = 2 * max_value(to) / code;
        to = Dtype::e5m2;
        scale = b.one(RangeScale{static_cast<float>(range * range * min_subnormal<e5m2>() / 2)},
                      {amax});
    } else {
        scale = b.one(ComputeScale{{to, op.scale_rounding, 0}}, {amax, b.one(ScaleOf{}, {stored})});
    }
    return b.one(MeasureCast{}, {next, b.one(Quantise{to}, {next, scale})});
}

// How large the moments can have become, with propagated scales.
Value moment_bounds(Builder& b, const StepOptions& o, const std::string& parameter, Value gradient,
                    Value scale, Value clip) {
    const Propagation& p = *o.recipe.propagation;
    const Value size =
        p.rescale_weight_gradients ? b.one(DynamicRescale{p.statistic}, {gradient, scale}) : scale;
    const std::string name = moment_bounds_name(parameter);
    const Value bounds = b.one(AdamBounds{o.adamw.beta1, o.adamw.beta2},
                               {b.load(name, {Dtype::f32, {2}}), size, clip});
    b.store(name, bounds);
    return bounds;
}

}  // namespace

StateFormats formats_of(const Recipe& recipe, const Parameter& p) {
    if (!p.decays() || p.router) return {};  // vectors are small, and so are routers
    return p.table ? recipe.table_states() : recipe.states;
}

std::string gradient_name(std::string_view parameter) { return fmt::format("grad/{}", parameter); }

Graph micro_graph(const StepOptions& o, bool add_to_gradients, bool measure) {
    Forward f = forward_part(o, /*training=*/true);
    Builder b(f.graph);
    const Value whole_loss = f.router_loss ? b.add(f.loss, f.router_loss) : f.loss;
    const Values gradients = differentiate(b, whole_loss, f.weights);
    b.set_phase(Phase::backward);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
        const Parameter& p = f.parameters[i];
        const std::string name = gradient_name(p.name);
        b.set_label(p.name);
        const Dtype stored = stored_gradient(o, formats_of(o.recipe, p));
        if (is_fp8(stored) && !o.recipe.propagation) {
            check(!add_to_gradients, "'{}': gradients in {} hold one micro-batch", name,
                  octavo::name(stored));
            b.store(name, quantise_gradient(b, o.recipe, gradients[i]));
            continue;
        }
        Value sum = b.cast(gradients[i], stored);
        if (add_to_gradients) sum = b.add(b.load(name, b.type(sum)), sum);
        b.store(name, sum);
    }
    b.set_label("loss");
    const Value loss = add_to_gradients ? b.add(b.load(kLossName, b.type(f.loss)), f.loss) : f.loss;
    b.store(kLossName, loss);
    if (f.router_loss) b.store(kRouterLossName, f.router_loss);
    for (const auto& [layer, counts] : f.expert_counts) {
        b.store(std::string(kExpertCounts) + layer, counts);
    }
    return finish(apply(o.recipe, f.graph, /*training=*/true), o, measure);
}

Graph eval_graph(const StepOptions& o) {
    Forward f = forward_part(o);
    f.graph.add_output("loss", f.loss);
    return finish(apply(o.recipe, f.graph, /*training=*/false), o);
}

Graph row_losses_graph(const StepOptions& o) {
    Graph graph;
    Builder b(graph);
    ModelBuilder m(b, o.architecture);
    const Type tokens{Dtype::i32, {o.batch, o.seq}};
    const Value ids = b.input("ids", tokens), weight = b.input("weight", {Dtype::f32, {1}});
    const Value logits = head(m, backbone(m, ids));
    Values losses;
    for (std::int64_t row = 0; row < o.batch; ++row) {
        const Value targets = b.input(fmt::format("targets.{}", row), tokens);
        losses.push_back(language_model_loss(m, logits, targets, weight));
    }
    graph = rewrite_forward(o.recipe, graph, losses);
    for (std::int64_t row = 0; row < o.batch; ++row) {
        graph.add_output(fmt::format("loss.{}", row), losses[static_cast<std::size_t>(row)]);
    }
    return finish(apply(o.recipe, graph, /*training=*/false), o);
}

Graph update_graph(const StepOptions& o, const Graph& micro, bool measure) {
    Graph g;
    Builder b(g);
    b.set_phase(Phase::update);
    const std::vector<Parameter> params = parameters(o.architecture);
    const auto& propagation = o.recipe.propagation;
    const Type one{Dtype::f32, {1}};
    const Gradients found = load_gradients(b, o, params);
    const auto& [gradients, scales] = found;
    // A loss that is not finite skips the step as a norm does, and so do the amaxes of delayed
    // scales, whose codes saturate.
    const std::vector<DelayedState> delayed = delayed_states(micro);
    Values guarded{b.load(kLossName, one)};
    for (const DelayedState& state : delayed) {
        guarded.push_back(load_history(b, o.recipe, state));
    }
    const Value norm = b.mul(norm_of(b, found), b.one(Guard{}, guarded));
    const Values factors = b.emit(ClipFactor{.max_norm = o.clip, .scaled = propagation.has_value()},
                                  joined({norm}, scales));
    const Value factor = factors[0];
    const Value schedule = b.input("schedule", {Dtype::f32, {3}});
    const Value step = b.input("step", {Dtype::i32, {1}});

    const Refresh refresh{measure ? Refresh::Kind::measured : Refresh::Kind::predicted, schedule,
                          factor};
    const std::vector<WorkingWeight> working = working_weights(o.recipe, micro);
    for (std::size_t i = 0; i < params.size(); ++i) {
        const Parameter& p = params[i];
        const StateFormats formats = formats_of(o.recipe, p);
        b.set_label(p.name);
        AdamW op = o.adamw;
        if (!p.decays()) op.weight_decay = 0;
        op.stochastic =
            formats.master == Dtype::bf16 || formats.m == Dtype::bf16 || formats.v == Dtype::bf16;
        const bool codes = has_codes(formats.v);
        op.stochastic_moments &= has_scale(formats.m) || has_scale(formats.v);
        if (op.stochastic || op.stochastic_moments) op.stream = random_stream("round/" + p.name);
        op.sqrt_v &= codes;
        op.v_floor &= codes;
        const std::string first = "adam.m/" + p.name;
        const std::string second = second_moment_name(op, p.name);
        const auto load = [&](const std::string& name, const MomentFormat& format) {
            return b.load(name, state_type(format, p.shape));
        };
        Load master{p.name, state_type(formats.master, p.shape)};
        Value own_factor = factor;
        if (propagation) {
            master.exponent = propagation->exponent_of(p.name, size_exponent(p.init, p.sigma));
            own_factor = factors[1 + i];
            op.keep_scale = true;
        }
        Values operands{b.one(master, {}),
                        gradients[i],
                        load(first, formats.m),
                        load(second, formats.v),
                        own_factor,
                        schedule,
                        step};
        if (propagation && (has_scale(formats.m) || has_scale(formats.v))) {
            operands.push_back(moment_bounds(b, o, p.name, gradients[i], scales[i], factor));
            op.v_floor = o.adamw.v_floor && has_scale(formats.v);
        }
        const Values next = b.emit(op, operands);
        b.store(p.name, next[0]);
        b.store(first, next[1]);
        b.store(second, next[2]);
        for (const WorkingWeight& w : working) {
            if (w.weight == p.name) {
                refresh_working_weight(b, o.recipe, w, next[0], refresh);
            }
        }
    }
    b.set_label("");
    for (const DelayedState& state : delayed) {
        advance_delayed_state(b, o.recipe, state);
    }
    b.output("norm", norm);
    return finish(g, o);
}

Graph moments_graph(const StepOptions& o) {
    Graph g;
    if (o.recipe.propagation) return g;
    Builder b(g);
    b.set_phase(Phase::update);
    const std::vector<Parameter> params = parameters(o.architecture);
    const auto is_measured = [&](const Parameter& p) {
        const MomentFormat& v = formats_of(o.recipe, p).v;
        const bool fits = !o.adamw.sqrt_v || o.adamw.scale_rounding == ScaleRounding::exact;
        return has_codes(v) && fits;
    };
    if (std::ranges::none_of(params, is_measured)) return g;
    const Gradients gradients = load_gradients(b, o, params);
    const Value factor = b.one(ClipFactor{.max_norm = o.clip}, {norm_of(b, gradients)});
    for (std::size_t i = 0; i < params.size(); ++i) {
        if (!is_measured(params[i])) continue;
        b.set_label(params[i].name);
        b.output(params[i].name,
                 measure_second_moment(b, o, params[i], gradients.values[i], factor));
    }
    return finish(g, o);
}

Graph inspection_graph(const StepOptions& o, bool gradients) {
    Forward f = forward_part(o);
    Builder b(f.graph);
    if (gradients) {
        const Values found = differentiate(b, f.loss, f.weights);
        for (std::size_t i = 0; i < found.size(); ++i) {
            b.output("grad." + f.parameters[i].name, found[i]);
        }
    }
    b.output("loss", f.loss);
    b.output("logits", f.logits);
    return finish(apply(o.recipe, f.graph, /*training=*/false), o);
}

}  // namespace octavo
