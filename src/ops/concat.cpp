// The operands side by side, in order, along the last dimension.
//     x0 (..., N0), x1 (..., N1), ... of one dtype -> y (..., N0 + N1 + ...)
#include "graph/scaled.h"

namespace octavo {
namespace {

Shape with_last(Shape shape, std::int64_t n) {
    shape[-1] = n;
    return shape;
}

Types type(const Concat&, Operands in) {
    check(in.size() > 0, "concat takes one operand or more, got none");
    check(in[0].shape.rank() > 0, "concat: operand 0 must have a dimension to concatenate along");
    std::int64_t n = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
        in.expect_float(i);
        in.expect_dtype(i, in[0].dtype);
        in.expect_shape(i, with_last(in[0].shape, in[i].shape.last()));
        n += in[i].shape.last();
    }
    return {{in[0].dtype, with_last(in[0].shape, n)}};
}

Values vjp(Builder& b, const Concat&, const Values& in, const Values&, const Values& dout) {
    Split op;
    for (Value v : in) op.sizes.push_back(b.shape(v).last());
    return b.emit(op, {dout[0]});
}

// All under the largest scale.
ScaledValues scale(ScaleBuilder& s, const Concat& op, const ScaledValues& in) {
    Exponent top{.any = true};
    for (const Scaled& x : in) {
        if (x.scale.any) continue;
        check(top.any || x.scale.base == top.base,
              "concat '{}': its operands have scales that depend on different numbers of the step",
              s.b.label());
        if (top.any || x.scale.offset > top.offset) top = x.scale;
    }
    Values data;
    for (const Scaled& x : in) {
        const bool same = x.scale.any || x.scale == top;
        const Cast move{.to = s.b.dtype(x.data), .exponent = x.scale.offset - top.offset};
        data.push_back(same ? x.data : s.b.one(move, {x.data}));
    }
    return {{s.b.one(op, data), top}};
}

constexpr RulesFor<Concat> kConcat{.type = type, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const Concat&) { return kRules<kConcat>; }

}  // namespace octavo
