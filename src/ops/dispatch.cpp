// Copies of tokens for their experts: y[r] = x[choices[r] / k], zeros where choices[r] < 0.
//     x (T, C), rows (T, k) i32 and choices (R) i32 of ExpertOrder -> y (R, C) of x's dtype
#include "graph/builder.h"
#include "ops/expert_rows.h"

namespace octavo {
namespace {

Types type(const Dispatch&, Operands in) {
    in.expect_count(3);
    in.expect_float(0);
    in.expect_rank(0, 2);
    expect_expert_rows(in, 1);
    in.expect_shape(1, {in[0].shape[0], in[1].shape[1]});
    return {{in[0].dtype, {in[2].shape[0], in[0].shape[1]}}};
}

Values vjp(Builder& b, const Dispatch&, const Values& in, const Values&, const Values& dout) {
    return {b.one(Combine{}, {dout[0], in[1], in[2]}), Value{}, Value{}};
}

constexpr RulesFor<Dispatch> kDispatch{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const Dispatch&) { return kRules<kDispatch>; }

}  // namespace octavo
