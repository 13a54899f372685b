// Gradient of Combine:
//     dy[r] = gates[c] dout[c / k] with c = choices[r], zeros where that is negative
//     dgates[t, j] = the dot product of dout[t] and y[rows[t, j]]
//     dout (T, C), y (R, C), rows (T, k) i32, choices (R) i32, gates (T, k) f32 (f64)
//         -> dy like y, dgates like gates
#include "graph/builder.h"
#include "ops/expert_rows.h"

namespace octavo {
namespace {

Types type(const CombineGrad&, Operands in) {
    in.expect_count(5);
    in.expect_float(0);
    in.expect_rank(0, 2);
    expect_expert_rows(in, 2);
    in.expect_dtype(1, in[0].dtype);
    in.expect_shape(1, {in[3].shape[0], in[0].shape[1]});
    in.expect_shape(2, {in[0].shape[0], in[2].shape[1]});
    in.expect_dtype(4, accumulator(in[0].dtype));
    in.expect_shape(4, in[2].shape);
    return {in[1], in[4]};
}

constexpr RulesFor<CombineGrad> kCombineGrad{.type = type};

}  // namespace

const Rules& rules(const CombineGrad&) { return kRules<kCombineGrad>; }

}  // namespace octavo
