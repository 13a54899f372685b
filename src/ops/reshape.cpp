// The same elements under another shape; nothing is moved.     x -> y of x's dtype
#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Reshape& op, Operands in) {
    in.expect_count(1);
    check(op.shape.elements() == in[0].shape.elements(),
          "reshape: {} does not have as many elements as {}", to_string(op.shape),
          to_string(in[0]));
    const Granularity g = in[0].scaling.granularity;
    check(g == Granularity::none || g == Granularity::tensor,
          "reshape: expected one scale per tensor or none, got {}\n"
          "  Reshape before quantising: the other scales belong to rows or tiles.",
          to_string(in[0]));
    return {{in[0].dtype, op.shape, in[0].scaling}};
}

Values vjp(Builder& b, const Reshape&, const Values& in, const Values&, const Values& dout) {
    return {b.reshape(dout[0], b.shape(in[0]))};
}

ScaledValues scale(ScaleBuilder& s, const Reshape& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<Reshape> kReshape{.type = type, .vjp = vjp, .scale = scale, .view = true};

}  // namespace

const Rules& rules(const Reshape&) { return kRules<kReshape>; }

}  // namespace octavo
