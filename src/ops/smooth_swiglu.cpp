// SwiGLU with the largest |up| of each row or column divided out (Smooth-SwiGLU, arXiv 2409.12517):
//     s = a power of two >= max |up| over the row (or column), or the maximum itself; >= 2^-24
//     h = silu(gate) * (up / s)
//     gate, up: same type, float -> h of that type, s (rows) or (columns) in f32 (f64 for f64);
//     with `amax` also max |h| (1) f32, as h is stored
// With `given`, h is divided by factors that are one operand more, (columns) like s, which is what
// the next ones follow from.
//
// A row of gate is a token, a column a channel of the feed-forward layer. Whoever uses h multiplies
// by s (ScaleAlong), which is a constant for the gradient: it cancels.
// A row or column with an infinity or NaN in `up` becomes NaN, and s with it.
#include "graph/builder.h"

namespace octavo {
namespace {

Types type(const SmoothSwiGlu& op, Operands in) {
    in.expect_count(op.given ? 3 : 2);
    in.expect_float(0);
    in.expect_like(1, 0);
    const Shape& x = in[0].shape;
    const std::int64_t factors = op.axis == Axis::row ? x.rows() : x.last();
    Types out{in[0], {accumulator(in[0].dtype), {factors}}};
    if (op.given) {
        check(op.axis == Axis::column, "smooth_swiglu: only factors of columns can be given");
        in.expect_dtype(2, out[1].dtype);
        in.expect_shape(2, out[1].shape);
    }
    if (op.amax) out.push_back({Dtype::f32, {1}});
    return out;
}

// dh is the gradient of SwiGlu / s.
Values vjp(Builder& b, const SmoothSwiGlu& op, const Values& in, const Values& out,
           const Values& dout) {
    const Value factors = op.given ? in[2] : out[1];
    const Value dh = b.one(ScaleAlong{op.axis, /*inverse=*/true}, {dout[0], factors});
    Values grads = b.emit(SwiGluGrad{}, {in[0], in[1], dh});
    if (op.given) grads.emplace_back();
    return grads;
}

Values decompose(Builder& b, const SmoothSwiGlu& op, const Values& in) {
    if (!op.amax) return {};
    SmoothSwiGlu alone = op;
    alone.amax = false;
    const Values out = b.emit(alone, in);
    return {out[0], out[1], b.one(Amax{}, {out[0]})};
}

constexpr RulesFor<SmoothSwiGlu> kSmoothSwiGlu{
    .type = type, .decompose = decompose, .vjp = vjp, .in_place = {{{0, 0}, {0, 1}}}};

}  // namespace

const Rules& rules(const SmoothSwiGlu&) { return kRules<kSmoothSwiGlu>; }

}  // namespace octavo
