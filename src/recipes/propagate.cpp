#include "recipes/propagate.h"

#include <algorithm>
#include <cmath>

#include "graph/scaled.h"
#include "passes/fuse.h"
#include "passes/rewriter.h"

namespace octavo {
namespace {

constexpr std::string_view kGradient = "grad/", kCache = "kv/", kWorking = "work.";

bool is_norm_grad(const Op& op) {
    return std::holds_alternative<RmsNormGrad>(op) || std::holds_alternative<LayerNormGrad>(op);
}

// Scales and factors are normal numbers of f32. Static ones follow from shapes and initialisations,
// so that a graph that needs others is refused when it is built.
constexpr int kLeastExponent = -126, kLargestExponent = 127;

void check_exponent(int e, const Node& n, std::string_view what) {
    check(e >= kLeastExponent && e <= kLargestExponent,
          "{} '{}': {} of 2^{} leaves the range of scales, 2^{} to 2^{}.\n"
          "  Scales follow from shapes and from the sizes of initial weights.",
          op_name(n.op), n.label, what, e, kLeastExponent, kLargestExponent);
}

// The factors that its rule gave an op.
void check_factors(const Node& n) {
    const auto factor = [&](int e) { check_exponent(e, n, "a factor"); };
    std::visit(
        [&](const auto& op) {
            if constexpr (requires { int{op.exponent}; }) factor(op.exponent);
            if constexpr (requires { op.a_exponent + op.b_exponent; }) {
                factor(op.a_exponent);
                factor(op.b_exponent);
            }
            if constexpr (requires { op.x_exponent + op.bias_exponent; }) {
                factor(op.x_exponent);
                factor(op.bias_exponent);
            }
            if constexpr (requires { op.gradient_exponent; }) factor(op.gradient_exponent);
        },
        n.op);
    if (const auto* attention = std::get_if<Attention>(&n.op)) factor(std::ilogb(attention->scale));
}

class Propagator {
  public:
    Propagator(const Graph& g, const Propagation& options)
        : g_(g),
          options_(options),
          match_(g),
          rewrite_(g),
          s_(rewrite_.b, options.scales),
          scaled_(g.value_count()) {}

    Graph run() {
        for (const Node& n : g_.nodes()) {
            rewrite_.stand_at(n);
            step(n);
        }
        rewrite_.b.set_label("");
        for (const Output& o : g_.outputs()) {
            rewrite_.replace(o.value, s_.value(scaled_[o.value.id]));
        }
        for (const GradientScales& of : gradient_scales_) store_scales(of);
        Graph out = rewrite_.finish();
        for (const Node& n : out.nodes()) check_factors(n);
        return out;
    }

  private:
    // Gradients whose scales are one number of the step times powers of two.
    struct GradientScales {
        Value base;
        std::vector<std::string> names{};
        std::vector<int> offsets{};
    };

    void step(const Node& n) {
        if (const auto* load = std::get_if<Load>(&n.op)) return set(n, {loaded(*load)});
        if (std::holds_alternative<Input>(n.op)) return set(n, {{rewrite_.b.one(n.op, {})}});
        if (const auto* store = std::get_if<Store>(&n.op)) return stored(*store, of(n.in[0]));
        const auto rule = rules_of(n.op).scale;
        check(rule != nullptr,
              "{} '{}' has no scale rule.\n"
              "  Recipes that propagate scales cannot train what computes with it.",
              op_name(n.op), n.label);
        ScaledValues in;
        for (const Value v : n.in) in.push_back(of(v));
        ScaledValues out = rule(s_, n.op, in);
        if (options_.rescale_norms && is_norm_grad(n.op) && match_.only_reader_as<Add>(n.out[0])) {
            out[0].size = measured(out[0]);
        }
        set(n, out);
    }

    const Scaled& of(Value v) const { return scaled_[v.id]; }

    void set(const Node& n, const ScaledValues& out) {
        check(out.size() == n.out.size(), "{}: its scale rule gave {} results, not {}",
              op_name(n.op), out.size(), n.out.size());
        for (std::size_t i = 0; i < out.size(); ++i) {
            for (const Exponent* e : {&out[i].scale, &out[i].size}) {
                check_exponent(e->offset, n, "a scale");
            }
            scaled_[n.out[i].id] = out[i];
            rewrite_.replace(n.out[i], out[i].data);
        }
    }

    Exponent measured(const Scaled& x) {
        const Exponent& e = x.scale;
        const DynamicRescale op{options_.statistic, e.offset};
        return {.base = s_.b.one(op, {x.data, s_.scale_value({.base = e.base})})};
    }

    Scaled loaded(const Load& load) {
        const Value v = s_.b.one(load, {});
        if (load.name.starts_with(kCache)) return {v, {.any = true}};
        if (load.name.starts_with(kGradient)) {
            return {v, {.base = s_.b.load(gradient_scale_name(load.name), {Dtype::f32, {1}})}};
        }
        if (!load.exponent) return {v};
        const Exponent size{.offset = *load.exponent};
        const bool codes = load.name.starts_with(kWorking) || load.type.scaling != kUnscaled;
        return codes ? Scaled{v, size} : Scaled{v, {}, size};
    }

    void stored(const Store& store, const Scaled& x) {
        if (store.name.starts_with(kGradient)) {
            s_.b.store(store.name, x.data);
            note_scale(gradient_scale_name(store.name), x.scale);
        } else {
            s_.b.store(store.name, store.name.starts_with(kCache) ? x.data : s_.value(x));
        }
    }

    void note_scale(std::string name, const Exponent& scale) {
        if (!scale.base) return s_.b.store(name, s_.scale_value(scale));
        auto of = std::ranges::find(gradient_scales_, scale.base, &GradientScales::base);
        if (of == gradient_scales_.end()) {
            of = gradient_scales_.insert(of, GradientScales{.base = scale.base});
        }
        of->names.push_back(std::move(name));
        of->offsets.push_back(scale.offset);
    }

    // One op for all of them: a launch each would cost more than it computes.
    void store_scales(const GradientScales& of) {
        if (of.names.size() == 1) {
            return s_.b.store(of.names[0],
                              s_.scale_value({.offset = of.offsets[0], .base = of.base}));
        }
        const Values scales = s_.b.emit(ScaleByPowers{of.offsets}, {of.base});
        for (std::size_t i = 0; i < scales.size(); ++i) s_.b.store(of.names[i], scales[i]);
    }

    const Graph& g_;
    const Propagation& options_;
    Matcher match_;
    Rewriter rewrite_;
    ScaleBuilder s_;
    ScaledValues scaled_;
    std::vector<GradientScales> gradient_scales_;
};

}  // namespace

std::string gradient_scale_name(std::string_view gradient) {
    return fmt::format("grad.scale/{}", gradient.substr(kGradient.size()));
}

Graph propagate(const Graph& g, const Propagation& options) { return Propagator(g, options).run(); }

}  // namespace octavo
