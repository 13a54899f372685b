// The head: logits = x w^T -> loss, and back through the same logits to dx and dw. Fused, logits
// exist for `chunk` rows at a time only.
#include <algorithm>

#include "passes/fuse_rules.h"

namespace octavo::fusions {
namespace {

Value through_reshape(const Matcher& match, Value v) {
    const Node* reshape = match.producer_as<Reshape>(v);
    return reshape ? reshape->in[0] : v;
}

// Rows of logits at a time: as many as fit, in chunks of about equal length, and whole tiles of the
// products' kernels.
std::int64_t head_chunk(std::int64_t rows, std::int64_t most) {
    constexpr std::int64_t kTile = 128;
    if (most >= rows) return rows;
    const std::int64_t chunks = (rows + most - 1) / std::max<std::int64_t>(most, 1);
    const std::int64_t even = (rows + chunks - 1) / chunks;
    if (most < kTile) return std::max<std::int64_t>(most, 1);
    return std::min((even + kTile - 1) / kTile, most / kTile) * kTile;
}

}  // namespace

bool head_loss(const Matcher& match, const Node& n, Rewriter& rewrite) {
    // n is CrossEntropyGrad(logits, targets, lse, weight, dloss) -> dlogits.
    if (!std::holds_alternative<CrossEntropyGrad>(n.op)) return false;
    const Node* loss = match.producer_as<CrossEntropy>(n.in[2]);
    if (!loss || loss->in[0] != n.in[0]) return false;
    const auto& gradient = std::get<CrossEntropyGrad>(n.op);
    if (std::get<CrossEntropy>(loss->op).exponent != gradient.exponent) return false;
    const Value logits = through_reshape(match, n.in[0]);
    const Node* forward = match.producer_as<Matmul>(logits);
    if (!forward || match.is_output(logits) || match.is_output(n.in[0])) return false;
    const auto& op = std::get<Matmul>(forward->op);
    if (op.bias || op.accumulate) return false;

    // dlogits, perhaps reshaped, perhaps quantised, has two readers: the gradients by x and by w.
    Value dlogits = n.out[0];
    if (const Node* reshape = match.only_reader_as<Reshape>(dlogits)) dlogits = reshape->out[0];
    const Node* quantised = match.only_reader_as<DelayedQuantise>(dlogits);
    if (quantised) dlogits = quantised->out[0];
    const Node *dgrad = nullptr, *wgrad = nullptr;
    for (const std::int32_t reader : match.readers(dlogits)) {
        const Node& r = match.graph().node(reader);
        const auto* m = std::get_if<Matmul>(&r.op);
        if (!m || m->accumulate) continue;
        const Value other = r.in[0] == dlogits ? r.in[1] : r.in[0];
        if (m->kind == MatmulKind::dgrad && other == forward->in[1]) dgrad = &r;
        if (m->kind == MatmulKind::wgrad && other == forward->in[0]) wgrad = &r;
    }
    if (!dgrad || !wgrad || match.readers(dlogits).size() != 2) return false;
    const Type& x_type = match.graph().type(forward->in[0]);
    const Type& w_type = match.graph().type(forward->in[1]);
    const bool fp8 = x_type.scaling == kPerTensor && w_type.scaling == kPerTensor && op.trans_b;
    const bool plain =
        x_type.scaling == kUnscaled && x_type.dtype == w_type.dtype && op.out == x_type.dtype;
    if (quantised ? !fp8 : !plain) return false;

    const std::int64_t rows = x_type.shape.rows(), vocab = match.graph().type(n.in[0]).shape.last();
    const std::int64_t row_bytes = vocab * static_cast<std::int64_t>(size_of(op.out));
    HeadLoss head{.trans_b = op.trans_b,
                  .chunk = head_chunk(rows, match.target().head_chunk_bytes / row_bytes),
                  .exponents = {.fprop = op.exponent,
                                .dgrad = std::get<Matmul>(dgrad->op).exponent,
                                .wgrad = std::get<Matmul>(wgrad->op).exponent,
                                .logits = gradient.exponent,
                                .gradient = gradient.gradient_exponent}};
    Values in;
    const auto take = [&](Value v) {
        // The quantiser's state may be loaded further on: here, then.
        bring_forward(match, v, n, rewrite);
        in.push_back(rewrite(v));
    };
    for (const Value v : {forward->in[0], forward->in[1], n.in[1], n.in[3], n.in[4]}) take(v);
    if (quantised) {
        head.quantise = std::get<DelayedQuantise>(quantised->op).rule;
        head.logits = op.out;
        for (std::size_t i = 1; i < 4; ++i) take(quantised->in[i]);
    }
    rewrite.keep(n);  // for the reshape that may follow; dead once dgrad and wgrad are replaced
    rewrite.stand_at(*forward);
    in[0] = rewrite.b.reshape(in[0], {rows, x_type.shape.last()});
    const Values fused = rewrite.b.emit(head, in);
    rewrite.replace(loss->out[0], fused[0]);
    if (quantised) {
        // Its codes exist for a chunk at a time: whoever read them is replaced below, and the node
        // counts as done only if all its results are.
        rewrite.replace(quantised->out[0], fused[1]);
        rewrite.replace(quantised->out[1], fused[3]);
        rewrite.replace(quantised->out[2], fused[4]);
    }
    rewrite.replace(dgrad->out[0],
                    rewrite.b.reshape(fused[1], match.graph().type(dgrad->out[0]).shape));
    rewrite.replace(wgrad->out[0], fused[2]);
    return true;
}

// acc + the head's dw  ->  the head accumulates.
bool head_accumulate(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<HeadLoss>(&n.op);
    if (!op || op->accumulate) return false;
    const Node* add = only_reader_as_sum(match, n.out[2]);
    const Value acc = add ? term_before(*add, n.out[2], rewrite) : Value{};
    if (!acc) return false;
    HeadLoss fused = *op;
    fused.accumulate = true;
    Values in = rewrite(n.in);
    in.push_back(rewrite(acc));
    rewrite.replace(add->out[0], rewrite.keep(n, fused, std::move(in))[2]);
    return true;
}

}  // namespace octavo::fusions
