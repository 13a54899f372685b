// Codes whose scales follow from the tensor alone: one per row, per 1x128 or 128x128 block, or per
// row with a power of two per group (base/block_scale.h has the arithmetic); and with them, the
// element-wise op whose results they are.
//     the operands of the source op (`of`; the value itself: x, any float without scales); its
//     results are seen as matrices (all dimensions but the last are rows)
//         -> for each result: rows: y, its shape, in format `to` under `scaling`
//            columns: the same of its transpose (N, M), quantised from the value and not from y
//            both: y, then the one of the transpose
//
// Results of the source are rounded to its dtype first, as if they had been written.
// An infinity or NaN makes NaNs of the whole block (or row, or with `global` the tensor).
#include "graph/builder.h"
#include "ops/delayed_quantise.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

bool has_groups(const BlockQuantise& op) { return op.scaling.granularity == Granularity::micro; }

void check_scaling(const BlockQuantise& op) {
    const Scaling& s = op.scaling;
    const bool known = s.granularity != Granularity::none && s.granularity != Granularity::tensor &&
                       s.granularity != Granularity::expanded;
    check(known && s.scale_dtype == Dtype::f32,
          "block_quantise: expected f32 scales per row, 1x128, 128x128 or micro group, got {}",
          to_string(s));
    const bool group_known = s.group == 32 || s.group == 64 || s.group == 128;
    check(has_groups(op) ? group_known : s.group == 0,
          "block_quantise: expected micro groups of 32, 64 or 128 elements, got {}", to_string(s));
    check(!op.global || has_groups(op), "block_quantise: only micro groups share a global scale");
    check(op.rule == BlockRule::recip || !has_groups(op),
          "block_quantise: exponents of micro groups need a floor, which rule te does not have");
}

Types values_of(const BlockQuantise& op, const Operands& in) {
    if (const std::optional<Op> source = source_op(op.of)) {
        return rules_of(*source).type(*source, in.first(op_name(*source), in.size()));
    }
    in.expect_count(1);
    in.expect_float(0);
    return {in[0]};
}

Types type(const BlockQuantise& op, Operands in) {
    check(is_fp8(op.to), "block_quantise: expected e4m3 or e5m2, got {}", name(op.to));
    check_scaling(op);
    Types out;
    for (const Type& value : values_of(op, in)) {
        const Shape& shape = value.shape;
        check(shape.rank() >= 2, "block_quantise: expected at least 2 dimensions, got {}",
              to_string(value));
        if (op.copies != Copies::columns) out.push_back({op.to, shape, op.scaling});
        if (op.copies != Copies::rows) {
            out.push_back({op.to, {shape.last(), shape.rows()}, op.scaling});
        }
    }
    return out;
}

// The source first; then the copies of each of its results.
Values decompose(Builder& b, const BlockQuantise& op, const Values& in) {
    const std::optional<Op> source = source_op(op.of);
    if (!source && op.copies == Copies::rows) return {};
    BlockQuantise rows = op;
    rows.of = QuantiseSource::value;
    rows.copies = Copies::rows;
    Values out;
    for (const Value value : source ? b.emit(*source, in) : in) {
        if (op.copies != Copies::columns) out.push_back(b.one(rows, {value}));
        if (op.copies != Copies::rows) {
            out.push_back(b.one(rows, {b.one(Transpose{}, {value})}));
        }
    }
    return out;
}

constexpr RulesFor<BlockQuantise> kBlockQuantise{.type = type, .decompose = decompose};

}  // namespace

const Rules& rules(const BlockQuantise&) { return kRules<kBlockQuantise>; }

}  // namespace octavo
