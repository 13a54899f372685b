// y = cast(x * k) under the scale s, with k = 1 / s rounded to f32 and the product in f32. The cast
// rounds to nearest even and saturates. Codes under a scale are decoded first, code * scale in f32.
//     x (..., N) any float, plain or under one scale, s (1) f32
//         -> rows: y (shape of x) in format `to` under s
//            columns: y^T (N, M), y seen as a matrix: all dimensions but the last are its M rows
//            both: y, y^T
//
// With `noise`, plain values are rounded up or down to codes of 8 bits at random, right on average,
// by random numbers of the noise, the draw and the element (base/stochastic.h):
//     x, s, draw (1) i32 -> y
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Quantise& op, Operands in) {
    in.expect_count(op.noise ? 3 : 2);
    expect_float_or_scaled(in, 0);
    expect_scalar(in, 1, Dtype::f32);
    const Shape& shape = in[0].shape;
    const Type y = scaled_type("quantise", op.to, shape);
    if (op.noise) {
        in.expect_float(0);
        expect_scalar(in, 2, Dtype::i32);
        check(is_fp8(op.to) && op.copies == Copies::rows,
              "quantise: expected the rows in e4m3 or e5m2 to be rounded at random, got{}",
              attributes(op));
    }
    if (op.copies == Copies::rows) return {y};
    check(shape.rank() >= 2, "quantise: expected a matrix to transpose, got {}", to_string(in[0]));
    const Type transposed{op.to, {shape.last(), shape.rows()}, kPerTensor};
    return op.copies == Copies::both ? Types{y, transposed} : Types{transposed};
}

Values decompose(Builder& b, const Quantise& op, const Values& in) {
    if (op.copies == Copies::rows) return {};
    const Value y = b.one(Quantise{op.to}, in), transposed = b.one(Transpose{}, {y});
    return op.copies == Copies::both ? Values{y, transposed} : Values{transposed};
}

constexpr RulesFor<Quantise> kQuantise{.type = type, .decompose = decompose};

}  // namespace

const Rules& rules(const Quantise&) { return kRules<kQuantise>; }

}  // namespace octavo
