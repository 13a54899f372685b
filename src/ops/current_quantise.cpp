// Codes of 8 bits under the scale that follows from the tensor itself, and with them, the
// element-wise op whose result they are, and a transposed copy.
//     the operands of the source op (`of`, of one result; the value itself: x, any float without
//     scales; with `scaled` also the factors of the last one), guess (1) f32
//         -> y in the rule's format, scale (1) f32; with `transpose` also y^T (N, M), M the rows of
//            y and N its last dimension
//
// `guess` is any number: no result depends on it. But a kernel may write codes under it while it
// finds the amax, and be done where that asks for this very scale. Scales that are powers of two
// seldom change: with the scale of the time before it is one pass over the source instead of two.
//
// Scaled operands and results of the source are rounded to its dtype, as if they had been written.
// Of what is not finite the scale is NaN.
#include "graph/builder.h"
#include "ops/delayed_quantise.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const CurrentQuantise& op, Operands in) {
    check(in.size() > 1, "current_quantise: expected two operands or more, got {}", in.size());
    check(quantised_results(op.of) == 1, "current_quantise: expected a source of one result");
    check(is_fp8(op.rule.to), "current_quantise: expected e4m3 or e5m2, got {}", name(op.rule.to));
    expect_scalar(in, in.size() - 1, Dtype::f32);
    const Types values =
        source_types(op.of, op.scaled, in.first("current_quantise", in.size() - 1));
    const Shape& shape = values[0].shape;
    Types out{scaled_type("current_quantise", op.rule.to, shape), {Dtype::f32, {1}}};
    if (!op.transpose) return out;
    check(shape.rank() >= 2, "current_quantise: expected a matrix to transpose, got {}",
          to_string(values[0]));
    out.push_back({op.rule.to, {shape.last(), shape.rows()}, kPerTensor});
    return out;
}

Values decompose(Builder& b, const CurrentQuantise& op, const Values& in) {
    const Value x = emit_source(b, op.of, op.scaled, {in.begin(), in.end() - 1})[0];
    const Value amax = b.one(Amax{}, {x}), guard = b.one(Guard{}, {amax});
    const Value scale = b.one(ComputeScale{op.rule}, {amax, guard});
    Values out{b.one(Quantise{op.rule.to}, {x, scale}), scale};
    if (op.transpose) out.push_back(b.one(Transpose{}, {out[0]}));
    return out;
}

// Nothing in place: kernels read the guess when the scale is there already.
constexpr RulesFor<CurrentQuantise> kCurrentQuantise{.type = type, .decompose = decompose};

}  // namespace

const Rules& rules(const CurrentQuantise&) { return kRules<kCurrentQuantise>; }

}  // namespace octavo
