// Ops that do on the way what else would be a pass over their results.
#include "passes/fuse_rules.h"

namespace octavo::fusions {
namespace {

// The op of `n` takes what its first result is added to as one operand more, and gives the sum.
bool add_to_result(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const Node* add = only_reader_as_sum(match, n.out[0]);
    const Value acc = add ? term_before(*add, n.out[0], rewrite) : Value{};
    if (!acc) return false;
    Values in = rewrite(n.in);
    in.push_back(rewrite(acc));
    rewrite.replace(add->out[0], rewrite.keep(n, n.op, std::move(in))[0]);
    return true;
}

}  // namespace

// acc + the gradient of a norm  ->  the norm's gradient adds the residual stream's. It rounds once
// instead of twice.
bool norm_grad_accumulate(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const bool rms = std::holds_alternative<RmsNormGrad>(n.op);
    const bool layer = std::holds_alternative<LayerNormGrad>(n.op);
    if (!(rms && n.in.size() == 4) && !(layer && n.in.size() == 5)) return false;
    return add_to_result(match, n, rewrite);
}

// The size of a norm's gradient is found while it is written. Same bits.
bool measure_norm_grad(const Matcher& match, const Node& n, Rewriter& rewrite) {
    Op fused = n.op;
    std::optional<DynamicRescale>* measure = nullptr;
    std::size_t operands = 0;
    if (auto* op = std::get_if<RmsNormGrad>(&fused)) measure = &op->measure, operands = 4;
    if (auto* op = std::get_if<LayerNormGrad>(&fused)) measure = &op->measure, operands = 5;
    if (!measure || *measure || n.in.size() != operands) return false;
    if (match.graph().type(n.out[0]).shape.elements() == 1) return false;
    for (const std::int32_t reader : match.readers(n.out[0])) {
        const Node& r = match.graph().node(reader);
        const auto* rescale = std::get_if<DynamicRescale>(&r.op);
        if (!rescale || !rewrite.has(r.in[1])) continue;
        *measure = *rescale;
        Values in = rewrite(n.in);
        in.push_back(rewrite(r.in[1]));
        rewrite.replace(r.out[0], rewrite.keep(n, fused, std::move(in)).back());
        return true;
    }
    return false;
}

// A sum under a scale of its own, and its codes, are written in one pass. Same bits.
bool scaled_add_cast(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<ScaledAdd>(&n.op);
    if (!op || op->cast || !match.target().fused_quantisers) return false;
    for (const std::int32_t reader : match.readers(n.out[0])) {
        const Node& r = match.graph().node(reader);
        const auto* cast = std::get_if<Cast>(&r.op);
        if (!cast || !is_fp8(cast->to)) continue;
        ScaledAdd fused = *op;
        fused.cast = *cast;
        const Values out = rewrite.keep(n, fused);
        for (std::size_t i = 0; i < r.out.size(); ++i) {
            rewrite.replace(r.out[i], out[n.out.size() + i]);
        }
        return true;
    }
    return false;
}

// acc + x * s  ->  the product with factors adds. It rounds once instead of twice.
bool scale_along_accumulate(const Matcher& match, const Node& n, Rewriter& rewrite) {
    if (!std::holds_alternative<ScaleAlong>(n.op) || n.in.size() != 2) return false;
    return add_to_result(match, n, rewrite);
}

// The amax of a result, for its scale, while it is written: of an updated weight, of a smoothed
// SwiGLU. Same bits.
bool amax_of_result(const Matcher& match, const Node& n, Rewriter& rewrite) {
    Op fused = n.op;
    bool* amax = nullptr;
    if (auto* op = std::get_if<AdamW>(&fused); op && !op->copy) amax = &op->amax;
    if (auto* op = std::get_if<SmoothSwiGlu>(&fused)) amax = &op->amax;
    if (!amax || *amax) return false;
    for (const std::int32_t reader : match.readers(n.out[0])) {
        const Node& r = match.graph().node(reader);
        if (!std::holds_alternative<Amax>(r.op)) continue;
        *amax = true;
        rewrite.replace(r.out[0], rewrite.keep(n, fused).back());
        return true;
    }
    return false;
}

// The copy of an updated weight that products read, while the weight is written: a cast, or codes
// under a scale that does not depend on it. Same bits.
bool copy_of_weight(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<AdamW>(&n.op);
    if (!op || op->copy) return false;
    AdamW fused = *op;
    Value data = n.out[0];  // of a weight under a scale
    for (const std::int32_t reader : match.readers(n.out[0])) {
        const Node& r = match.graph().node(reader);
        if (std::holds_alternative<Codes>(r.op)) data = r.out[0];
    }
    for (const std::int32_t reader : match.readers(data)) {
        const Node& r = match.graph().node(reader);
        const auto* cast = std::get_if<Cast>(&r.op);
        const bool plain = cast && cast->of == QuantiseSource::value && !cast->transpose;
        if (!plain || size_of(cast->to) > 2) continue;
        fused.copy = {.to = cast->to, .exponent = cast->exponent};
        rewrite.replace(r.out[0], rewrite.keep(n, fused).back());
        return true;
    }
    for (const std::int32_t reader : match.readers(n.out[0])) {
        const Node& r = match.graph().node(reader);
        const auto* quantised = std::get_if<Quantise>(&r.op);
        if (!quantised || quantised->copies != Copies::rows || quantised->noise) continue;
        if (!bring_forward(match, r.in[1], n, rewrite)) continue;
        fused.copy = {.to = quantised->to, .scaled = true};
        Values in = rewrite(n.in);
        in.push_back(rewrite(r.in[1]));
        rewrite.replace(r.out[0], rewrite.keep(n, fused, std::move(in)).back());
        return true;
    }
    return false;
}

// A norm of which only the statistics are read does not write y.
bool norm_statistics(const Matcher& match, const Node& n, Rewriter& rewrite) {
    Op fused = n.op;
    bool* statistics = nullptr;
    if (auto* op = std::get_if<RmsNorm>(&fused)) statistics = &op->statistics;
    if (auto* op = std::get_if<LayerNorm>(&fused)) statistics = &op->statistics;
    if (!statistics || *statistics) return false;
    if (!match.readers(n.out[0]).empty() || match.is_output(n.out[0])) return false;
    *statistics = true;
    rewrite.stand_at(n);
    const Values out = rewrite.b.emit(fused, rewrite(n.in));
    for (std::size_t i = 0; i < out.size(); ++i) rewrite.replace(n.out[i + 1], out[i]);
    return true;
}

}  // namespace octavo::fusions
