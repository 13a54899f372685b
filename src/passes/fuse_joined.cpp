// Readers of joined products (passes/join_products.h) that take their columns as they lie.
#include "passes/fuse_rules.h"

namespace octavo::fusions {
namespace {

// The columns that `v` is, seen as heads; null where it is something else.
const Node* split_behind(const Matcher& match, Value v, std::size_t piece) {
    const Node* reshape = match.used_once(v) ? match.producer_as<Reshape>(v) : nullptr;
    if (!reshape || !match.used_once(reshape->in[0])) return nullptr;
    const Node* split = match.producer_as<Split>(reshape->in[0]);
    const bool third = split && split->out.size() == 3 && split->out[piece] == reshape->in[0];
    return third ? split : nullptr;
}

struct Turned {  // rope(norm(heads))
    const Node *rope = nullptr, *norm = nullptr, *split = nullptr;
};

Turned turned(const Matcher& match, Value v, std::size_t piece) {
    Turned t{.rope = match.producer_as<Rope>(v)};
    if (!t.rope || t.rope->in.size() != 2) return {};
    Value heads = t.rope->in[0];
    if (const Node* norm = match.producer_as<RmsNorm>(heads); norm && norm->in.size() == 2) {
        if (!match.used_once(heads) || !match.readers(norm->out[1]).empty()) return {};
        t.norm = norm;
        heads = norm->in[0];
    }
    t.split = split_behind(match, heads, piece);
    return t;
}

}  // namespace

// Gate and up are the halves of one product.
bool joined_swiglu(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<SwiGlu>(&n.op);
    if (!op || op->joined || !match.target().reads_joined) return false;
    const Node* split = match.producer_as<Split>(n.in[0]);
    if (!split || split->out.size() != 2 || split->out[0] != n.in[0] || split->out[1] != n.in[1]) {
        return false;
    }
    rewrite.keep(n, SwiGlu{op->exponent, /*joined=*/true}, rewrite(split->in));
    return true;
}

// q, k and v are the pieces of one product, and go where a step of generation wants them.
bool qkv_to_cache(const Matcher& match, const Node& n, Rewriter& rewrite) {
    if (!std::holds_alternative<KvWrite>(n.op) || !match.target().reads_joined) return false;
    const Turned k = turned(match, n.in[2], 1);
    if (!k.split || !match.used_once(n.in[2])) return false;
    if (split_behind(match, n.in[3], 2) != k.split) return false;
    const Node* step = match.only_reader_as<Reshape>(k.split->out[0]);
    if (step && k.norm) step = match.only_reader_as<RmsNorm>(step->out[0]);
    const Node* rope = step ? match.only_reader_as<Rope>(step->out[0]) : nullptr;
    if (!rope || !match.only_reader_as<PagedAttention>(rope->out[0])) return false;
    const Turned q = turned(match, rope->out[0], 0);
    if (q.split != k.split || rope->op != k.rope->op || rope->in[1] != k.rope->in[1]) return false;
    if (k.norm && q.norm->op != k.norm->op) return false;

    const Graph& g = match.graph();
    QkvToCache fused{.heads = g.type(rope->out[0]).shape[2],
                     .kv_heads = g.type(n.in[2]).shape[2],
                     .rope = std::get<Rope>(rope->op)};
    Values in{rewrite(n.in[0]), rewrite(n.in[1]), rewrite(k.split->in[0]), rewrite(rope->in[1]),
              rewrite(n.in[4])};
    if (k.norm) {
        fused.norm_eps = std::get<RmsNorm>(k.norm->op).eps;
        in.push_back(rewrite(q.norm->in[1]));
        in.push_back(rewrite(k.norm->in[1]));
    }
    for (std::size_t i = 5; i < n.in.size(); ++i) in.push_back(rewrite(n.in[i]));
    rewrite.stand_at(n);
    const Values out = rewrite.b.emit(fused, in);
    rewrite.replace(n.out[0], out[0]);
    rewrite.replace(n.out[1], out[1]);
    rewrite.replace(rope->out[0], out[2]);
    return true;
}

}  // namespace octavo::fusions
