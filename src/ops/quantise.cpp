// y = cast(x * k) under the scale s, with k = 1 / s rounded to f32 and the product in f32. The cast
// rounds to nearest even and saturates. Codes under a scale are decoded first, code * scale in f32.
//     x (..., N) any float, plain or under one scale, s (1) f32
//         -> rows: y (shape of x) in format `to` under s
//            columns: y^T (N, M), y seen as a matrix: all dimensions but the last are its M rows
//            both: y, y^T
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Quantise& op, Operands in) {
    in.expect_count(2);
    expect_float_or_scaled(in, 0);
    expect_scalar(in, 1, Dtype::f32);
    const Shape& shape = in[0].shape;
    const Type y = scaled_type("quantise", op.to, shape);
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
