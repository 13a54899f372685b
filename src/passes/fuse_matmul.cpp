// Products and embeddings that add, round and scale their own results.
#include <algorithm>

#include "passes/fuse_rules.h"

namespace octavo::fusions {
namespace {

bool adds_bias(const Matcher& match, const Matmul& op, const Values& in) {
    const auto type = [&](std::size_t i) -> const Type& { return match.graph().type(in[i]); };
    return match.target().adds_bias && match.target().adds_bias(op, type(0), type(1));
}

// Whether `v` is an input gradient or a sum of them, straight from products, and none of them is
// read by anything else.
bool made_of_products(const Matcher& match, Value v) {
    if (!match.used_once(v)) return false;
    const Node& n = match.producer(v);
    if (const auto* matmul = std::get_if<Matmul>(&n.op)) {
        return matmul->kind == MatmulKind::dgrad && !matmul->accumulate && !matmul->bias;
    }
    if (!std::holds_alternative<Add>(n.op)) return false;
    return made_of_products(match, n.in[0]) && made_of_products(match, n.in[1]);
}

// The exponent that sums give to a product on its way.
int exponent_on_the_way(const Matcher& match, Value v) {
    const Node* sum = match.only_reader_as<Add>(v);
    if (!sum) return 0;
    const auto& add = std::get<Add>(sum->op);
    const int own = sum->in[0] == v ? add.a_exponent : add.b_exponent;
    return own +
           (made_of_products(match, sum->out[0]) ? exponent_on_the_way(match, sum->out[0]) : 0);
}

// Whether a product may write these codes: from codes without scales, and if the backend fuses
// casts. Who measures the cast may read the sums, too; a product of their own serves it.
bool writes_codes(const Matcher& match, const Node& matmul, Dtype to) {
    const Type &a = match.graph().type(matmul.in[0]), &b = match.graph().type(matmul.in[1]);
    if (!is_fp8(to) || !match.target().fused_quantisers) return false;
    if (!is_fp8(a.dtype) || !is_fp8(b.dtype) || match.is_output(matmul.out[0])) return false;
    if (a.scaling != kUnscaled || b.scaling != kUnscaled) return false;
    const auto measures = [&](std::int32_t reader) {
        const Node& r = match.graph().node(reader);
        if (!r.out.empty() && match.only_reader_as<MeasureCast>(r.out[0])) return true;
        return std::holds_alternative<MeasureCast>(r.op);
    };
    const auto readers = match.readers(matmul.out[0]);
    return std::ranges::count_if(readers, measures) == std::ssize(readers) - 1;
}

}  // namespace

// a b + bias  ->  the product adds it, rounded to the dtype of its result, where that costs
// nothing. The sum rounds once instead of twice, where the library does not round before.
bool matmul_bias(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* add = std::get_if<BiasAdd>(&n.op);
    const Node* matmul = add ? match.producer_as<Matmul>(n.in[0]) : nullptr;
    if (!matmul || !match.used_once(n.in[0])) return false;
    Matmul op = std::get<Matmul>(matmul->op);
    if (op.bias || op.accumulate) return false;
    op.bias = true;
    op.exponent += add->x_exponent;
    if (!adds_bias(match, op, matmul->in)) return false;
    rewrite.stand_at(n);
    const Value bias = rewrite(n.in[1]);
    const Cast cast{.to = op.out, .exponent = add->bias_exponent};
    const bool as_it_is = rewrite.b.dtype(bias) == op.out && cast.exponent == 0;
    rewrite.keep(n, op,
                 {rewrite(matmul->in[0]), rewrite(matmul->in[1]),
                  as_it_is ? bias : rewrite.b.one(cast, {bias})});
    return true;
}

// 2^e (a b + c d) + ...  ->  the products take the factor, and can add to each other. Same bits,
// but for what becomes subnormal.
bool matmul_exponent(const Matcher& match, const Node& n, Rewriter& rewrite) {
    if (!match.target().accumulate_products) return false;
    Op op = n.op;
    if (auto* add = std::get_if<Add>(&op)) {
        if (made_of_products(match, n.in[0])) add->a_exponent = 0;
        if (made_of_products(match, n.in[1])) add->b_exponent = 0;
    } else if (auto* matmul = std::get_if<Matmul>(&op)) {
        if (made_of_products(match, n.out[0])) {
            matmul->exponent += exponent_on_the_way(match, n.out[0]);
        }
    }
    if (op == n.op) return false;
    rewrite.keep(n, op);
    return true;
}

// acc + a b  ->  the product accumulates onto acc, in place when acc dies. Same bits up to the
// order of two f32 additions per element; products in 16 bits round once instead of twice.
bool matmul_accumulate(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* add = std::get_if<Add>(&n.op);
    if (!add) return false;
    for (const int product : {1, 0}) {
        const int own = product == 0 ? add->a_exponent : add->b_exponent;
        const int others = product == 0 ? add->b_exponent : add->a_exponent;
        if (others != 0) continue;
        const Node* matmul = match.producer_as<Matmul>(n.in[product]);
        if (!matmul || !match.used_once(n.in[product])) continue;
        Matmul op = std::get<Matmul>(matmul->op);
        const bool wanted = op.kind == MatmulKind::wgrad || match.target().accumulate_products;
        if (op.accumulate || op.kind == MatmulKind::plain || !wanted) continue;
        if (op.bias && own != 0) continue;
        op.accumulate = true;
        op.exponent += own;
        if (op.bias && !adds_bias(match, op, matmul->in)) continue;
        Values in = rewrite(matmul->in);
        in.push_back(rewrite(n.in[1 - product]));
        rewrite.keep(n, op, std::move(in));
        return true;
    }
    return false;
}

// A gradient in 16 or 8 bits: the product rounds its sums itself. Same bits up to the order of the
// sums.
bool matmul_cast(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* cast = std::get_if<Cast>(&n.op);
    const Node* matmul = cast ? match.producer_as<Matmul>(n.in[0]) : nullptr;
    if (!matmul || cast->transpose) return false;
    Matmul op = std::get<Matmul>(matmul->op);
    if (op.kind != MatmulKind::wgrad || op.accumulate || op.out != Dtype::f32) return false;
    const bool half = size_of(cast->to) == 2 && match.used_once(n.in[0]);
    if (!half && !writes_codes(match, *matmul, cast->to)) return false;
    op.out = cast->to;
    op.exponent += cast->exponent;
    rewrite.keep(n, op, rewrite(matmul->in));
    return true;
}

// acc + scatter(dy)  ->  the embedding's gradient scatters onto acc.
bool embedding_accumulate(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* add = std::get_if<Add>(&n.op);
    if (!add || *add != Add{}) return false;
    for (const int scatter : {1, 0}) {
        const Node* grad = match.producer_as<EmbeddingGrad>(n.in[scatter]);
        if (!grad || !match.used_once(n.in[scatter]) || grad->in.size() != 2) continue;
        rewrite.keep(n, grad->op,
                     {rewrite(grad->in[0]), rewrite(grad->in[1]), rewrite(n.in[1 - scatter])});
        return true;
    }
    return false;
}

}  // namespace octavo::fusions
