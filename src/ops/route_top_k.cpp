// The k experts of each token, and how much each of them counts: softmax over the experts, of which
// the k largest stay; ties go to the expert with the lower number. With `normalise` the gates of a
// token are divided by their sum, which makes them the softmax over its k logits.
//     logits (T, E) f32 (f64), [ids (T, k) i32]
//         -> gates (T, k) of their dtype, ids (T, k) i32, the largest first
//
// Given ids are replayed (arXiv 2510.11370): their gates follow from the logits of now. A row whose
// first id is negative chooses for itself. Logits of NaN are never chosen before others.
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const RouteTopK& op, Operands in) {
    in.expect_count(1, 2);
    in.expect_rank(0, 2);
    in.expect_float(0);
    in.expect_dtype(0, accumulator(in[0].dtype));
    const std::int64_t tokens = in[0].shape[0], experts = in[0].shape[1];
    check(op.k > 0 && op.k <= experts, "route_top_k: expected 1 to {} experts a token, got {}",
          experts, op.k);
    const Type ids{Dtype::i32, {tokens, op.k}};
    if (in.size() == 2) {
        in.expect_dtype(1, Dtype::i32);
        in.expect_shape(1, ids.shape);
    }
    return {{in[0].dtype, ids.shape}, ids};
}

Values vjp(Builder& b, const RouteTopK& op, const Values& in, const Values& out,
           const Values& dout) {
    Values gradients{dout[0] ? b.one(RouteTopKGrad{op.normalise}, {in[0], out[1], dout[0]})
                             : Value{}};
    gradients.resize(in.size());
    return gradients;
}

constexpr RulesFor<RouteTopK> kRouteTopK{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const RouteTopK&) { return kRules<kRouteTopK>; }

}  // namespace octavo
