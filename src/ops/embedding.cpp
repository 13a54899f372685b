// y[...] = table[ids[...]], zeros where ids[...] < 0 (no token).
//     table (V, C), ids (...) i32 below V -> y (..., C) of table's dtype
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Embedding&, Operands in) {
    in.expect_count(2);
    in.expect_float(0);
    in.expect_rank(0, 2);
    in.expect_dtype(1, Dtype::i32);
    std::vector<std::int64_t> dims(in[1].shape.begin(), in[1].shape.end());
    dims.push_back(in[0].shape.last());
    return {{in[0].dtype, Shape(dims)}};
}

Values vjp(Builder& b, const Embedding&, const Values& in, const Values&, const Values& dout) {
    return {b.one(EmbeddingGrad{b.shape(in[0])[0]}, {dout[0], in[1]}), Value{}};
}

ScaledValues scale(ScaleBuilder& s, const Embedding& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<Embedding> kEmbedding{.type = type, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const Embedding&) { return kRules<kEmbedding>; }

}  // namespace octavo
