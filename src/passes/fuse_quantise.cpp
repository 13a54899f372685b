// Casts that write transposed copies, and compute what they cast.
#include <fmt/format.h>

#include <algorithm>

#include "ops/delayed_quantise.h"
#include "passes/fuse_rules.h"

namespace octavo::fusions {
namespace {

// Quantisers turn a matrix on the way, but no stack of them.
bool turns(const Node& n) {
    const auto* transpose = std::get_if<Transpose>(&n.op);
    return transpose && !transpose->batched;
}

// codes and their transposed copy  ->  one pass over the values writes both. Same bits.
template <class Op>
bool write_transposed(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<Op>(&n.op);
    if (!op || op->transpose || !is_fp8(match.graph().type(n.out[0]).dtype)) return false;
    for (const std::int32_t reader : match.readers(n.out[0])) {
        const Node& r = match.graph().node(reader);
        if (!turns(r)) continue;
        Op fused = *op;
        fused.transpose = true;
        rewrite.replace(r.out[0], rewrite.keep(n, fused)[n.out.size()]);
        return true;
    }
    return false;
}

// Casts differ by their exponents; others are all alike.
template <class Q>
bool same_but_for_exponents(Q a, const Q& b) {
    if constexpr (std::is_same_v<Q, Cast>) a.exponent = b.exponent;
    return a == b;
}

// Whether a quantiser computes nothing before it quantises.
bool takes_values(const DelayedQuantise& q) { return q.of == QuantiseSource::value && !q.scaled; }
bool takes_values(const CurrentQuantise& q) { return q.of == QuantiseSource::value && !q.scaled; }
bool takes_values(const BlockQuantise& q) { return q.of == QuantiseSource::value; }
bool takes_values(const Cast& q) { return q.of == QuantiseSource::value; }

// Quantisers like `n`, of kind Q, of all results of the element-wise op that n's operand comes
// from; none if some result is read by anything else, or the backend does not fuse them.
template <class Q>
std::vector<const Node*> quantisers_of_source(const Matcher& match, const Node& n) {
    const auto* op = std::get_if<Q>(&n.op);
    if (!op || !takes_values(*op) || !match.target().fused_quantisers) return {};
    const Node& source = match.producer(n.in[0]);
    if (!octavo::quantise_source(source.op)) return {};
    if (!std::is_same_v<Q, Cast> && source_exponent(source.op) != 0) return {};
    std::vector<const Node*> quantisers;
    for (const Value v : source.out) {
        const Node* q = match.only_reader_as<Q>(v);
        if (!q || !same_but_for_exponents(std::get<Q>(q->op), *op)) return {};
        quantisers.push_back(q);
    }
    return quantisers;
}

// The fused op in place of all quantisers, whose results it gives one after the other.
bool join_source(const Node& n, const Node& source, const Op& fused,
                 const std::vector<const Node*>& quantisers, Rewriter& rewrite) {
    rewrite.stand_at(n);
    const Values out = rewrite.b.emit(fused, rewrite(source.in));
    std::size_t next = 0;
    for (const Node* q : quantisers) {
        for (const Value v : q->out) rewrite.replace(v, out[next++]);
    }
    return true;
}

// A norm that is quantised and read nowhere else: the quantiser computes it from its statistics.
// Same bits.
template <class Q>
bool compute_norm(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<Q>(&n.op);
    if (!op || !takes_values(*op) || !match.target().fused_quantisers) return false;
    const Node& norm = match.producer(n.in[0]);
    const bool is_norm =
        std::holds_alternative<RmsNorm>(norm.op) || std::holds_alternative<LayerNorm>(norm.op);
    if (!is_norm || n.in[0] != norm.out[0] || !match.used_once(n.in[0])) return false;
    Q fused = *op;
    fused.of = QuantiseSource::normalise;
    Values in = rewrite(norm.in);
    for (std::size_t i = 1; i < norm.out.size(); ++i) in.push_back(rewrite(norm.out[i]));
    for (std::size_t i = 1; i < n.in.size(); ++i) in.push_back(rewrite(n.in[i]));
    rewrite.keep(n, fused, std::move(in));
    return true;
}

}  // namespace

// The same for codes under a scale that is known, which may be wanted transposed alone.
bool quantise_transpose(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<Quantise>(&n.op);
    if (!op || op->copies != Copies::rows || op->noise || !is_fp8(op->to)) return false;
    const auto readers = match.readers(n.out[0]);
    const auto turned = std::ranges::find_if(
        readers, [&](std::int32_t reader) { return turns(match.graph().node(reader)); });
    if (turned == readers.end()) return false;
    const bool alone = match.used_once(n.out[0]);
    rewrite.stand_at(n);
    const Values out =
        rewrite.b.emit(Quantise{op->to, alone ? Copies::columns : Copies::both}, rewrite(n.in));
    if (!alone) rewrite.replace(n.out[0], out[0]);
    rewrite.replace(match.graph().node(*turned).out[0], out.back());
    return true;
}

// Two casts, of a tensor and of its transpose, read it once; one of the transpose alone reads the
// tensor as it lies. Same bits.
bool block_quantise_columns(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<BlockQuantise>(&n.op);
    if (!op || op->copies != Copies::rows) return false;
    const Node* turned = match.producer_as<Transpose>(n.in[0]);
    if (turned && !turns(*turned)) return false;
    const Value x = turned ? turned->in[0] : n.in[0];
    const Node *rows = turned ? nullptr : &n, *columns = turned ? &n : nullptr;
    const auto is_twin = [&](const Node& r) { return r.op == n.op; };
    for (const std::int32_t reader : match.readers(x)) {
        const Node& r = match.graph().node(reader);
        if (!rows && is_twin(r)) rows = &r;
        if (columns || !turns(r)) continue;
        for (const std::int32_t next : match.readers(r.out[0])) {
            if (is_twin(match.graph().node(next))) columns = &match.graph().node(next);
        }
    }
    if (!columns) return false;
    BlockQuantise fused = *op;
    fused.copies = rows ? Copies::both : Copies::columns;
    rewrite.stand_at(n);
    const Values out = rewrite.b.emit(fused, {rewrite(x)});
    if (rows) rewrite.replace(rows->out[0], out[0]);
    rewrite.replace(columns->out[0], out.back());
    return true;
}

// Codes under the scale of their own amax: one op finds it, the scale and the codes. It guesses the
// scale, from the one of the time before, and is right most of the time where scales are powers of
// two. The guess is a State's, which no result depends on. Same bits.
bool current_quantise(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<Quantise>(&n.op);
    if (!op || op->noise || !is_fp8(op->to) || !match.target().fused_quantisers) return false;
    const Graph& g = match.graph();
    if (op->copies == Copies::columns || g.type(n.in[0]).scaling != kUnscaled) return false;
    const Node* scale = match.producer_as<ComputeScale>(n.in[1]);
    if (!scale) return false;
    const ScaleRule& rule = std::get<ComputeScale>(scale->op).rule;
    const Node* amax = match.producer_as<Amax>(scale->in[0]);
    const Node* guard = match.producer_as<Guard>(scale->in[1]);
    const bool own = amax && amax->in[0] == n.in[0];
    const bool guarded = guard && guard->in.size() == 1 && guard->in[0] == scale->in[0];
    if (!own || !guarded || rule.to != op->to || rule.rounding != ScaleRounding::pow2) return false;
    // A layer has several such tensors.
    const auto before = std::ranges::count_if(
        g.nodes().begin(), g.nodes().begin() + (&n - g.nodes().data()), [&](const Node& other) {
            return other.label == n.label && std::holds_alternative<Quantise>(other.op);
        });
    const std::string name = fmt::format("scale.guess/{}.{}", n.label, before);
    rewrite.stand_at(n);
    const bool both = op->copies == Copies::both;
    const Value guess = rewrite.b.load(name, {Dtype::f32, {1}});
    const Values out =
        rewrite.b.emit(CurrentQuantise{.rule = rule, .transpose = both}, {rewrite(n.in[0]), guess});
    rewrite.b.store(name, out[1]);
    rewrite.replace(n.in[1], out[1]);  // for whoever reads the scale later, as recomputed casts do
    rewrite.replace(n.out[0], out[0]);
    if (both) rewrite.replace(n.out[1], out[2]);
    return true;
}

// And it computes what it quantises. Same bits.
bool current_quantise_source(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto quantisers = quantisers_of_source<CurrentQuantise>(match, n);
    if (quantisers.size() != 1) return false;
    const Node& source = match.producer(n.in[0]);
    CurrentQuantise fused = std::get<CurrentQuantise>(n.op);
    fused.of = *octavo::quantise_source(source.op);
    Values in = rewrite(source.in);
    in.push_back(rewrite(n.in[1]));
    rewrite.keep(n, fused, std::move(in));
    return true;
}

bool current_quantise_norm(const Matcher& match, const Node& n, Rewriter& rewrite) {
    return compute_norm<CurrentQuantise>(match, n, rewrite);
}

// Smooth-SwiGLU that nothing reads but such a quantiser: factors first, then the quotient on the
// way. Same bits: quotients by powers of two are exact.
bool current_quantise_smooth(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<SmoothSwiGlu>(&n.op);
    if (!op || op->amax || op->rounding != ScaleRounding::pow2) return false;
    if (match.graph().type(n.in[1]).dtype == Dtype::f16) return false;  // quotients would underflow
    const Node* q = match.only_reader_as<CurrentQuantise>(n.out[0]);
    if (!q || !takes_values(std::get<CurrentQuantise>(q->op))) return false;
    if (!bring_forward(match, q->in[1], n, rewrite)) return false;
    rewrite.stand_at(n);
    const Value up = rewrite(n.in[1]);
    const Value factors = rewrite.b.one(SmoothFactors{op->axis, op->rounding}, {up});
    CurrentQuantise fused = std::get<CurrentQuantise>(q->op);
    fused.of = QuantiseSource::swiglu;
    fused.scaled = ScaleAlong{op->axis, /*inverse=*/true};
    const Value divisors = op->given ? rewrite(n.in[2]) : factors;
    const Values out = rewrite.b.emit(fused, {rewrite(n.in[0]), up, divisors, rewrite(q->in[1])});
    rewrite.replace(n.out[1], factors);
    for (std::size_t i = 0; i < out.size(); ++i) rewrite.replace(q->out[i], out[i]);
    return true;
}

// The element-wise op whose results are quantised and read nowhere else joins its quantisers. Same
// bits: results are rounded to their dtype all the same.
bool quantise_source(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto quantisers = quantisers_of_source<DelayedQuantise>(match, n);
    if (quantisers.empty()) return false;
    const Node& source = match.producer(n.in[0]);
    Values in = rewrite(source.in);
    for (auto q = quantisers.rbegin(); q != quantisers.rend(); ++q) {
        for (std::size_t i = 1; i < (*q)->in.size(); ++i) {
            const Value v = (*q)->in[i];
            // Another quantiser's state may be loaded further on: here, then.
            bring_forward(match, v, n, rewrite);
            in.push_back(rewrite(v));
        }
    }
    DelayedQuantise fused = std::get<DelayedQuantise>(n.op);
    fused.of = *octavo::quantise_source(source.op);
    rewrite.stand_at(n);
    const Values out = rewrite.b.emit(fused, in);
    for (std::size_t k = 0; k < quantisers.size(); ++k) {
        const Node& q = *quantisers[k];
        for (std::size_t i = 0; i < 3; ++i) rewrite.replace(q.out[i], out[3 * k + i]);
        if (fused.transpose) rewrite.replace(q.out[3], out[3 * quantisers.size() + k]);
    }
    return true;
}

// The same for quantisers whose scales follow from the values themselves.
bool block_quantise_source(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto quantisers = quantisers_of_source<BlockQuantise>(match, n);
    if (quantisers.empty()) return false;
    const Node& source = match.producer(n.in[0]);
    BlockQuantise fused = std::get<BlockQuantise>(n.op);
    fused.of = *octavo::quantise_source(source.op);
    return join_source(n, source, fused, quantisers, rewrite);
}

// And for casts to 8 bits.
bool cast_source(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto quantisers = quantisers_of_source<Cast>(match, n);
    if (quantisers.empty() || !is_fp8(std::get<Cast>(n.op).to)) return false;
    const Node& source = match.producer(n.in[0]);
    Cast fused = std::get<Cast>(quantisers[0]->op);
    fused.of = *octavo::quantise_source(source.op);
    fused.source_exponent = source_exponent(source.op);
    if (quantisers.size() > 1) {
        fused.second_exponent = std::get<Cast>(quantisers[1]->op).exponent;
    }
    return join_source(n, source, fused, quantisers, rewrite);
}

// The last operand of a quantiser's source is a product with factors of rows or columns that nobody
// else reads: the quantiser multiplies. Same bits.
bool quantise_scaled(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<DelayedQuantise>(&n.op);
    if (!op || op->scaled || !match.target().fused_quantisers) return false;
    const std::size_t last = n.in.size() - 3 * quantised_results(op->of) - 1;
    const Node* product = match.producer_as<ScaleAlong>(n.in[last]);
    if (!product || product->in.size() != 2 || !match.used_once(n.in[last])) return false;
    DelayedQuantise fused = *op;
    fused.scaled = std::get<ScaleAlong>(product->op);
    Values in = rewrite(n.in);
    in[last] = rewrite(product->in[0]);
    in.insert(in.begin() + static_cast<std::ptrdiff_t>(last) + 1, rewrite(product->in[1]));
    rewrite.keep(n, fused, std::move(in));
    return true;
}

bool delayed_quantise_transpose(const Matcher& match, const Node& n, Rewriter& rewrite) {
    return write_transposed<DelayedQuantise>(match, n, rewrite);
}
bool cast_transpose(const Matcher& match, const Node& n, Rewriter& rewrite) {
    return write_transposed<Cast>(match, n, rewrite);
}

bool quantise_norm(const Matcher& match, const Node& n, Rewriter& rewrite) {
    return compute_norm<DelayedQuantise>(match, n, rewrite);
}
bool block_quantise_norm(const Matcher& match, const Node& n, Rewriter& rewrite) {
    return compute_norm<BlockQuantise>(match, n, rewrite);
}

// Statistics that nothing reads but one quantiser, as without gradients: it finds them itself. Same
// bits.
bool rms_norm_quantise(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<BlockQuantise>(&n.op);
    if (!op || op->of != QuantiseSource::normalise || op->copies != Copies::rows) return false;
    const Node* norm = match.producer_as<RmsNorm>(n.in.back());
    if (!norm || !std::get<RmsNorm>(norm->op).statistics || !match.used_once(n.in.back())) {
        return false;
    }
    RmsNormQuantise fused{std::get<RmsNorm>(norm->op).eps, *op};
    fused.quantise.of = QuantiseSource::value;
    rewrite.keep(n, fused, rewrite(norm->in));
    return true;
}

}  // namespace octavo::fusions
