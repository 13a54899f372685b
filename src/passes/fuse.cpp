#include "passes/fuse.h"

#include <algorithm>

#include "ops/delayed_quantise.h"
#include "passes/simplify.h"

namespace octavo {
namespace {

// What `term` is added to; "no value" if it is computed only after `term`.
Value term_before(const Node& add, Value term, const Rewriter& rewrite) {
    const Value other = add.in[0] == term ? add.in[1] : add.in[0];
    return rewrite.has(other) ? other : Value{};
}

// The only reader of `v` if it is a sum without factors.
const Node* only_reader_as_sum(const Matcher& match, Value v) {
    const Node* add = match.only_reader_as<Add>(v);
    return add && std::get<Add>(add->op) == Add{} ? add : nullptr;
}

bool adds_bias(const Matcher& match, const Matmul& op, const Values& in) {
    const auto type = [&](std::size_t i) -> const Type& { return match.graph().type(in[i]); };
    return match.target().adds_bias && match.target().adds_bias(op, type(0), type(1));
}

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

// Emits the nodes that `v` comes from where they are not there yet; false if it depends on `n`.
bool bring_forward(const Matcher& match, Value v, const Node& n, Rewriter& rewrite) {
    if (rewrite.has(v)) return true;
    const Node& producer = match.producer(v);
    if (&producer == &n) return false;
    for (const Value in : producer.in) {
        if (!bring_forward(match, in, n, rewrite)) return false;
    }
    rewrite.keep(producer);
    return true;
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
        if (!quantised || quantised->copies != Copies::rows) continue;
        if (!bring_forward(match, r.in[1], n, rewrite)) continue;
        fused.copy = {.to = quantised->to, .scaled = true};
        Values in = rewrite(n.in);
        in.push_back(rewrite(r.in[1]));
        rewrite.replace(r.out[0], rewrite.keep(n, fused, std::move(in)).back());
        return true;
    }
    return false;
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

// Head: logits = x w^T -> loss, and back through the same logits to dx and dw. Fused, logits exist
// for `chunk` rows at a time only.

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

// The same for codes under a scale that is known, which may be wanted transposed alone.
bool quantise_transpose(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto* op = std::get_if<Quantise>(&n.op);
    if (!op || op->copies != Copies::rows || !is_fp8(op->to)) return false;
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

// Casts differ by their exponents; others are all alike.
template <class Q>
bool same_but_for_exponents(Q a, const Q& b) {
    if constexpr (std::is_same_v<Q, Cast>) a.exponent = b.exponent;
    return a == b;
}

// Whether a quantiser computes nothing before it quantises.
bool takes_values(const DelayedQuantise& q) { return q.of == QuantiseSource::value && !q.scaled; }
bool takes_values(const BlockQuantise& q) { return q.of == QuantiseSource::value; }
bool takes_values(const Cast& q) { return q.of == QuantiseSource::value; }

// Quantisers like `n`, of kind Q, of all results of the element-wise op that n's operand comes
// from; none if some result is read by anything else, or the backend does not fuse them.
template <class Q>
std::vector<const Node*> quantisers_of_source(const Matcher& match, const Node& n) {
    const auto* op = std::get_if<Q>(&n.op);
    if (!op || !takes_values(*op) || !match.target().fused_quantisers) return {};
    const Node& source = match.producer(n.in[0]);
    if (!quantise_source(source.op)) return {};
    if (!std::is_same_v<Q, Cast> && source_exponent(source.op) != 0) return {};
    std::vector<const Node*> quantisers;
    for (const Value v : source.out) {
        const Node* q = match.only_reader_as<Q>(v);
        if (!q || !same_but_for_exponents(std::get<Q>(q->op), *op)) return {};
        quantisers.push_back(q);
    }
    return quantisers;
}

// The element-wise op whose results are quantised and read nowhere else joins its quantisers. Same
// bits: results are rounded to their dtype all the same.
bool quantise_source_of(const Matcher& match, const Node& n, Rewriter& rewrite) {
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
    fused.of = *quantise_source(source.op);
    rewrite.stand_at(n);
    const Values out = rewrite.b.emit(fused, in);
    for (std::size_t k = 0; k < quantisers.size(); ++k) {
        const Node& q = *quantisers[k];
        for (std::size_t i = 0; i < 3; ++i) rewrite.replace(q.out[i], out[3 * k + i]);
        if (fused.transpose) rewrite.replace(q.out[3], out[3 * quantisers.size() + k]);
    }
    return true;
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

// The same for quantisers whose scales follow from the values themselves.
bool block_quantise_source(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto quantisers = quantisers_of_source<BlockQuantise>(match, n);
    if (quantisers.empty()) return false;
    const Node& source = match.producer(n.in[0]);
    BlockQuantise fused = std::get<BlockQuantise>(n.op);
    fused.of = *quantise_source(source.op);
    return join_source(n, source, fused, quantisers, rewrite);
}

// And for casts to 8 bits.
bool cast_source(const Matcher& match, const Node& n, Rewriter& rewrite) {
    const auto quantisers = quantisers_of_source<Cast>(match, n);
    if (quantisers.empty() || !is_fp8(std::get<Cast>(n.op).to)) return false;
    const Node& source = match.producer(n.in[0]);
    Cast fused = std::get<Cast>(quantisers[0]->op);
    fused.of = *quantise_source(source.op);
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

// A norm that is quantised and read nowhere else: the quantiser computes it from its statistics.
// Same bits.
template <class Q>
bool quantise_norm(const Matcher& match, const Node& n, Rewriter& rewrite) {
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

constexpr FusionRule kFusions[] = {
    {"head_loss", head_loss},
    {"head_accumulate", head_accumulate},
    {"matmul_cast", matmul_cast},
    {"matmul_bias", matmul_bias},
    {"matmul_exponent", matmul_exponent},
    {"matmul_accumulate", matmul_accumulate},
    {"embedding_accumulate", embedding_accumulate},
    {"norm_grad_accumulate", norm_grad_accumulate},
    {"measure_norm_grad", measure_norm_grad},
    {"scale_along_accumulate", scale_along_accumulate},
    {"delayed_quantise_transpose", write_transposed<DelayedQuantise>},
    {"quantise_transpose", quantise_transpose},
    {"cast_transpose", write_transposed<Cast>},
    {"scaled_add_cast", scaled_add_cast},
    {"cast_source", cast_source},
    {"quantise_source", quantise_source_of},
    {"quantise_scaled", quantise_scaled},
    {"quantise_norm", quantise_norm<DelayedQuantise>},
    {"block_quantise_columns", block_quantise_columns},
    {"block_quantise_source", block_quantise_source},
    {"block_quantise_norm", quantise_norm<BlockQuantise>},
    {"norm_statistics", norm_statistics},
    {"amax_of_result", amax_of_result},
    {"copy_of_weight", copy_of_weight},
};

Graph apply(const Graph& g, const FusionRule& rule, const Target& target) {
    const Matcher match(g, target);
    Rewriter rewrite(g);
    for (const Node& n : g.nodes()) {
        // A rule may have mapped this node's results already, standing at an earlier node.
        bool done = !n.out.empty();
        for (Value v : n.out) done = done && rewrite.has(v);
        if (done || rule.apply(match, n, rewrite)) continue;
        rewrite.keep(n);
    }
    return remove_dead(rewrite.finish());
}

}  // namespace

Matcher::Matcher(const Graph& g, const Target& target)
    : g_(g), target_(target), readers_(g.value_count()), is_output_(g.value_count()) {
    for (std::int32_t i = 0; i < std::ssize(g.nodes()); ++i) {
        for (Value v : g.node(i).in) readers_[v.id].push_back(i);
    }
    for (const Output& o : g.outputs()) is_output_[o.value.id] = true;
}

std::span<const FusionRule> fusion_rules() { return kFusions; }
std::span<const FusionRule> layout_free_fusions() { return std::span(kFusions).first(1); }

Graph fuse(const Graph& g, const Target& target, std::span<const FusionRule> rules) {
    Graph fused = g;
    for (const FusionRule& rule : rules) fused = apply(fused, rule, target);
    return fused;
}

}  // namespace octavo
