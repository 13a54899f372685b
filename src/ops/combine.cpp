// What its experts make of a token: out[t] = sum over j of gates[t, j] y[rows[t, j]], in f32 (f64),
// in the order of j; without gates they are 1.
//     y (R, C), rows (T, k) i32 and choices (R) i32 of ExpertOrder, [gates (T, k) f32 (f64)]
//         -> out (T, C) of y's dtype
#include "graph/builder.h"
#include "ops/expert_rows.h"

namespace octavo {
namespace {

Types type(const Combine&, Operands in) {
    in.expect_count(3, 4);
    in.expect_float(0);
    in.expect_rank(0, 2);
    expect_expert_rows(in, 1);
    in.expect_shape(2, {in[0].shape[0]});
    if (in.size() == 4) {
        in.expect_dtype(3, accumulator(in[0].dtype));
        in.expect_shape(3, in[1].shape);
    }
    return {{in[0].dtype, {in[1].shape[0], in[0].shape[1]}}};
}

Values vjp(Builder& b, const Combine&, const Values& in, const Values&, const Values& dout) {
    if (in.size() == 3) return {b.one(Dispatch{}, {dout[0], in[1], in[2]}), Value{}, Value{}};
    const Values d = b.emit(CombineGrad{}, {dout[0], in[0], in[1], in[2], in[3]});
    return {d[0], Value{}, Value{}, d[1]};
}

constexpr RulesFor<Combine> kCombine{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const Combine&) { return kRules<kCombine>; }

}  // namespace octavo
