// Gradient of Embedding: dtable[v] = acc[v] + sum of dy[...] over the places where ids[...] = v.
//     dy (..., C), ids (...) i32 below V, [acc like dtable] -> dtable (V, C) of f32 (f64 for f64
//     dy)
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const EmbeddingGrad& op, Operands in) {
    in.expect_count(2, 3);
    in.expect_float(0);
    in.expect_dtype(1, Dtype::i32);
    const Shape& dy = in[0].shape;
    check(dy.rank() > 0, "embedding_grad: operand 0 must have a last dimension, got {}",
          to_string(in[0]));
    in.expect_shape(1, Shape(std::span(dy.begin(), dy.end() - 1)));
    if (in.size() == 3) {
        in.expect_dtype(2, accumulator(in[0].dtype));
        in.expect_shape(2, {op.vocab, dy.last()});
    }
    return {{accumulator(in[0].dtype), {op.vocab, dy.last()}}};
}

ScaledValues scale(ScaleBuilder& s, const EmbeddingGrad& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<EmbeddingGrad> kEmbeddingGrad{
    .type = type, .scale = scale, .in_place = {{{0, 2}}}};

}  // namespace

const Rules& rules(const EmbeddingGrad&) { return kRules<kEmbeddingGrad>; }

}  // namespace octavo
