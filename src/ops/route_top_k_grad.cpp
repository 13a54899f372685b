// Gradient of RouteTopK by the logits. With p the softmax over all experts (with `normalise`: over
// the k chosen ones) and g_j = p at the j-th choice:
//     dlogits[e] = sum over j with ids[j] = e of g_j dgates[j]  -  p[e] sum over j of g_j dgates[j]
// With `normalise` it is 0 at experts that were not chosen.
//     logits (T, E) f32 (f64), ids (T, k) i32, dgates (T, k) like the logits -> dlogits (T, E)
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const RouteTopKGrad&, Operands in) {
    in.expect_count(3);
    in.expect_rank(0, 2);
    in.expect_float(0);
    in.expect_dtype(0, accumulator(in[0].dtype));
    in.expect_rank(1, 2);
    in.expect_dtype(1, Dtype::i32);
    in.expect_shape(1, {in[0].shape[0], in[1].shape[1]});
    in.expect_dtype(2, in[0].dtype);
    in.expect_shape(2, in[1].shape);
    return {in[0]};
}

constexpr RulesFor<RouteTopKGrad> kRouteTopKGrad{.type = type};

}  // namespace

const Rules& rules(const RouteTopKGrad&) { return kRules<kRouteTopKGrad>; }

}  // namespace octavo
