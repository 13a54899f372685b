#include <fmt/core.h>

#include <map>

#include "graph/provider.h"

namespace octavo {
namespace {

std::string text(const ScaleRule& r) {
    return fmt::format(" {}{}{}", name(r.to), r.rounding == ScaleRounding::pow2 ? "" : " exact",
                       r.margin ? fmt::format(" margin={}", r.margin) : "");
}

// A factor 2^exponent: " 2^-5", " gate=2^-1".
std::string text(std::string_view what, int exponent) {
    if (exponent == 0) return "";
    return fmt::format(" {}{}2^{}", what, what.empty() ? "" : "=", exponent);
}

std::string_view kind_name(MatmulKind k) {
    switch (k) {
        case MatmulKind::plain:
            return "";
        case MatmulKind::fprop:
            return " fprop";
        case MatmulKind::dgrad:
            return " dgrad";
        case MatmulKind::wgrad:
            return " wgrad";
    }
    return "";
}

std::string_view axis_name(Axis a) { return a == Axis::row ? " row" : " column"; }

std::string_view source_name(QuantiseSource of) {
    static constexpr std::string_view kSources[] = {"",
                                                    " of swiglu",
                                                    " of joined_swiglu",
                                                    " of gelu",
                                                    " of gelu_grad",
                                                    " of swiglu_grad",
                                                    " of normalise"};
    return kSources[static_cast<int>(of)];
}

std::string_view copies_name(Copies c) {
    static constexpr std::string_view kCopies[] = {"", " columns", " both"};
    return kCopies[static_cast<int>(c)];
}

std::string text(const ScaleAlong& o) {
    return fmt::format("{}{}", axis_name(o.axis), o.inverse ? " inverse" : "");
}

struct Attributes {
    std::string operator()(const Input& o) const { return " '" + o.name + "'"; }
    std::string operator()(const Load& o) const { return " '" + o.name + "'"; }
    std::string operator()(const Store& o) const { return " '" + o.name + "'"; }
    std::string operator()(const AdamW& o) const {
        return fmt::format(
            " beta1={} beta2={} eps={} weight_decay={}{}{}{}{}{}{}{}", o.beta1, o.beta2, o.eps,
            o.weight_decay, o.stochastic ? " stochastic" : "",
            o.stochastic_moments ? " stochastic_moments" : "", o.sqrt_v ? " sqrt_v" : "",
            o.v_floor ? " v_floor" : "", o.amax ? " amax" : "", o.keep_scale ? " keep_scale" : "",
            o.copy ? fmt::format(" copy={}{}{}", name(o.copy->to), text("", o.copy->exponent),
                                 o.copy->scaled ? " scaled" : "")
                   : "");
    }
    std::string operator()(const Add& o) const {
        return text("a", o.a_exponent) + text("b", o.b_exponent);
    }
    std::string operator()(const AdvanceScale& o) const { return text(o.rule); }
    std::string operator()(const Attention& o) const { return fmt::format(" scale={}", o.scale); }
    std::string operator()(const AttentionGrad& o) const {
        return fmt::format(" scale={}", o.scale);
    }
    std::string operator()(const BlockQuantise& o) const {
        return fmt::format(" {} {}{}{}{}{}{}", name(o.to), to_string(o.scaling),
                           o.rounding == ScaleRounding::pow2 ? " pow2" : "",
                           o.rule == BlockRule::te ? " te" : "", o.global ? " global" : "",
                           source_name(o.of), copies_name(o.copies));
    }
    std::string operator()(const BiasAdd& o) const {
        return text("x", o.x_exponent) + text("bias", o.bias_exponent);
    }
    std::string operator()(const Cast& o) const {
        return fmt::format(" {}{}{}{}{}{}", name(o.to), source_name(o.of),
                           text("source", o.source_exponent), text("", o.exponent),
                           text("second", o.second_exponent), o.transpose ? " transpose" : "");
    }
    std::string operator()(const ClipFactor& o) const {
        return fmt::format(" {}{}", o.max_norm, o.scaled ? " scaled" : "");
    }
    std::string operator()(const ComputeScale& o) const { return text(o.rule); }
    std::string operator()(const Constant& o) const { return fmt::format(" {}", o.value); }
    std::string operator()(const CrossEntropy& o) const { return text("logits", o.exponent); }
    std::string operator()(const CrossEntropyGrad& o) const {
        return text("logits", o.exponent) + text("", o.gradient_exponent);
    }
    template <class Q>  // CurrentQuantise, DelayedQuantise
        requires requires(Q o) { o.rule, o.of, o.scaled, o.transpose; }
    std::string operator()(const Q& o) const {
        return fmt::format("{}{}{}{}", text(o.rule), source_name(o.of),
                           o.scaled ? " scaled" + text(*o.scaled) : "",
                           o.transpose ? " transpose" : "");
    }
    std::string operator()(const DelayedScale& o) const { return text(o.rule); }
    std::string operator()(const Dequantise& o) const { return fmt::format(" {}", name(o.to)); }
    std::string operator()(const DynamicRescale& o) const {
        static constexpr std::string_view kNames[] = {" l2", " l1", " max"};
        return std::string(kNames[static_cast<int>(o.statistic)]) + text("", o.exponent);
    }
    std::string operator()(const Exp& o) const { return text("", o.exponent); }
    std::string operator()(const ExpertOrder& o) const {
        return fmt::format(" experts={} alignment={}", o.experts, o.alignment);
    }
    std::string operator()(const Gelu& o) const { return text("", o.exponent); }
    std::string operator()(const GeluGrad& o) const { return text("", o.exponent); }
    std::string operator()(const HeadLoss& o) const {
        const HeadExponents& e = o.exponents;
        return fmt::format("{}{} chunk={}{}", o.trans_b ? " trans_b" : "",
                           o.accumulate ? " accumulate" : "", o.chunk,
                           o.quantise ? text(*o.quantise) : "") +
               text("fprop", e.fprop) + text("dgrad", e.dgrad) + text("wgrad", e.wgrad) +
               text("logits", e.logits) + text("gradient", e.gradient);
    }
    std::string measured(const std::optional<DynamicRescale>& o) const {
        return o ? " measure" + (*this)(*o) : "";
    }
    std::string operator()(const LayerNormGrad& o) const { return measured(o.measure); }
    std::string operator()(const RmsNormGrad& o) const { return measured(o.measure); }
    std::string operator()(const LayerNorm& o) const {
        return fmt::format(" eps={}{}", o.eps, o.statistics ? " statistics" : "");
    }
    std::string operator()(const Matmul& o) const {
        return fmt::format("{}{}{}{}{}{}{}", o.trans_a ? " trans_a" : "",
                           o.trans_b ? " trans_b" : "", kind_name(o.kind), groups(o),
                           o.bias ? " bias" : "", o.accumulate ? " accumulate" : "",
                           text("", o.exponent));
    }
    static std::string groups(const Matmul& o) {
        if (o.groups == 0) return "";
        return fmt::format(" groups={}{} alignment={}", o.groups, o.group_k ? " of k" : "",
                           o.alignment);
    }
    std::string operator()(const OverflowToNan& o) const {
        return fmt::format(" {}{}", name(o.to), text("", o.exponent));
    }
    std::string operator()(const PredictAmax& o) const { return fmt::format(" bound={}", o.bound); }
    std::string operator()(const Quantise& o) const {
        return fmt::format(" {}{}{}", name(o.to), copies_name(o.copies),
                           o.noise ? " stochastic" : "");
    }
    std::string operator()(const RmsNorm& o) const {
        return fmt::format(" eps={}{}", o.eps, o.statistics ? " statistics" : "");
    }
    std::string operator()(const RmsNormQuantise& o) const {
        return fmt::format(" eps={}{}", o.eps, (*this)(o.quantise));
    }
    std::string operator()(const Rope& o) const {
        return fmt::format(" theta={}{}{}", o.theta,
                           o.scaling.kind == RopeScaling::Kind::llama3 ? " llama3" : "",
                           o.inverse ? " inverse" : "");
    }
    std::string operator()(const RouteTopK& o) const {
        return fmt::format(" k={}{}", o.k, o.normalise ? " normalise" : "");
    }
    std::string operator()(const RouterLoss& o) const {
        return fmt::format(" balance={} z={}", o.balance, o.z);
    }
    std::string operator()(const Rsqrt& o) const { return text("", o.exponent); }
    std::string operator()(const ScaleAlong& o) const { return text(o); }
    std::string operator()(const SmoothFactors& o) const {
        return fmt::format("{}{}", axis_name(o.axis),
                           o.rounding == ScaleRounding::exact ? " exact" : "");
    }
    std::string operator()(const SmoothSwiGlu& o) const {
        return fmt::format("{}{}{}{}", axis_name(o.axis),
                           o.rounding == ScaleRounding::exact ? " exact" : "",
                           o.given ? " given" : "", o.amax ? " amax" : "");
    }
    std::string operator()(const ScaleByPowers& o) const {
        std::string s;
        for (const int e : o.exponents) s += fmt::format(" 2^{}", e);
        return s;
    }
    std::string operator()(const ScaledAdd& o) const {
        return text("a", o.a_exponent) + text("b", o.b_exponent) + text("a_size", o.a_size) +
               text("b_size", o.b_size) + (o.cast ? " cast" + (*this)(*o.cast) : "");
    }
    std::string operator()(const Select& o) const {
        return text("a", o.a_exponent) + text("b", o.b_exponent);
    }
    std::string operator()(const Silu& o) const { return text("", o.exponent); }
    std::string operator()(const SiluGrad& o) const { return text("", o.exponent); }
    std::string operator()(const Softmax& o) const {
        return text("x", o.exponent) + text("", o.result_exponent);
    }
    std::string operator()(const SoftmaxGrad& o) const { return text("y", o.exponent); }
    std::string operator()(const Sqrt& o) const { return text("", o.exponent); }
    std::string operator()(const SwiGlu& o) const { return text("gate", o.exponent); }
    std::string operator()(const SwiGluGrad& o) const { return text("gate", o.exponent); }
    std::string operator()(const Transpose& o) const { return o.batched ? " batched" : ""; }
    template <class T>
    std::string operator()(const T&) const {
        return "";
    }
};

// "e4m3[2, 4] x tensor (delayed)".
std::string described(const Graph& g, Value v, const StoredProviders& stored) {
    const std::string_view provider = scale_provider(g, v, stored);
    return to_string(g.type(v)) + (provider.empty() ? "" : fmt::format(" ({})", provider));
}

}  // namespace

std::string attributes(const Op& op) { return std::visit(Attributes{}, op); }

std::string to_text(const Graph& g) { return to_text(g, {}); }
std::string to_graphviz(const Graph& g) { return to_graphviz(g, {}); }

std::string to_text(const Graph& g, const StoredProviders& stored) {
    std::string s;
    for (const Node& n : g.nodes()) {
        for (std::size_t i = 0; i < n.out.size(); ++i) {
            s += fmt::format("{}%{}: {}", i ? ", " : "", n.out[i].id,
                             described(g, n.out[i], stored));
        }
        s += fmt::format("{}{}(", n.out.empty() ? "" : " = ", op_name(n.op));
        for (std::size_t i = 0; i < n.in.size(); ++i) {
            s += fmt::format("{}%{}", i ? ", " : "", n.in[i].id);
        }
        s += fmt::format("){}", attributes(n.op));
        if (!n.label.empty()) s += "  # " + n.label;
        s += '\n';
    }
    for (const Output& o : g.outputs()) s += fmt::format("output '{}' = %{}\n", o.name, o.value.id);
    return s;
}

std::string to_graphviz(const Graph& g, const StoredProviders& stored) {
    static constexpr std::string_view kColour[] = {"#dbeafe", "#fee2e2", "#dcfce7"};
    std::string s = "digraph octavo {\n  rankdir=TB; node [shape=box, style=filled];\n";
    for (std::size_t i = 0; i < g.nodes().size(); ++i) {
        const Node& n = g.nodes()[i];
        s += fmt::format("  n{} [label=\"{}{}\\n{}\", fillcolor=\"{}\"];\n", i, op_name(n.op),
                         attributes(n.op), n.label, kColour[static_cast<int>(n.phase)]);
        for (Value v : n.in) {
            s += fmt::format("  n{} -> n{} [label=\"{}\"];\n", g.producer(v), i,
                             described(g, v, stored));
        }
    }
    return s + "}\n";
}

}  // namespace octavo
