// Codes whose scales follow from the tensor alone: one per row, per 1x128 or 128x128 block, or per
// row with a power of two per group (base/block_scale.h has the arithmetic).
//     x any float without scales, seen as a matrix (all dimensions but the last are its rows)
//         -> rows: y, x's shape, in format `to` under `scaling`
//            columns: the same of x^T (N, M), quantised from x and not from y
//            both: y, then the one of x^T
//
// An infinity or NaN makes NaNs of the whole block (or row, or with `global` the tensor).
#include "graph/builder.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

bool has_groups(const BlockQuantise& op) { return op.scaling.granularity == Granularity::micro; }

void check_scaling(const BlockQuantise& op) {
    const Scaling& s = op.scaling;
    const bool known = s.granularity != Granularity::none && s.granularity != Granularity::tensor;
    check(known && s.scale_dtype == Dtype::f32,
          "block_quantise: expected f32 scales per row, 1x128, 128x128 or micro group, got {}",
          to_string(s));
    const bool group_known = s.group == 32 || s.group == 64 || s.group == 128;
    check(has_groups(op) ? group_known : s.group == 0,
          "block_quantise: expected micro groups of 32, 64 or 128 elements, got {}", to_string(s));
    check(!op.global || has_groups(op), "block_quantise: only micro groups share a global scale");
}

Types type(const BlockQuantise& op, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    check(is_fp8(op.to), "block_quantise: expected e4m3 or e5m2, got {}", name(op.to));
    check_scaling(op);
    const Shape& shape = in[0].shape;
    check(shape.rank() >= 2, "block_quantise: expected at least 2 dimensions, got {}",
          to_string(in[0]));
    Types out;
    if (op.copies != Copies::columns) out.push_back({op.to, shape, op.scaling});
    if (op.copies != Copies::rows) {
        out.push_back({op.to, {shape.last(), shape.rows()}, op.scaling});
    }
    return out;
}

Values decompose(Builder& b, const BlockQuantise& op, const Values& in) {
    if (op.copies == Copies::rows) return {};
    BlockQuantise rows = op;
    rows.copies = Copies::rows;
    Values out;
    if (op.copies == Copies::both) out.push_back(b.one(rows, {in[0]}));
    out.push_back(b.one(rows, {b.one(Transpose{}, {in[0]})}));
    return out;
}

constexpr RulesFor<BlockQuantise> kBlockQuantise{.type = type, .decompose = decompose};

}  // namespace

const Rules& rules(const BlockQuantise&) { return kRules<kBlockQuantise>; }

}  // namespace octavo
