// y = x[..., begin:end], a copy.     x (..., N) -> y (..., end - begin)
//
// Its gradient is zero outside the slice, written out as a Concat with zeros. Where several slices
// of one value carry gradients (q, k and v of one projection) those are added at full width.
#include "graph/builder.h"

namespace octavo {
namespace {

Shape with_last(Shape shape, std::int64_t n) {
    shape[-1] = n;
    return shape;
}

Types type(const Slice& op, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    check(in[0].shape.rank() > 0 && 0 <= op.begin && op.begin <= op.end &&
              op.end <= in[0].shape.last(),
          "slice: [{}, {}) must lie within the last dimension, got {}", op.begin, op.end,
          to_string(in[0]));
    return {{in[0].dtype, with_last(in[0].shape, op.end - op.begin)}};
}

Values vjp(Builder& b, const Slice& op, const Values& in, const Values&, const Values& dout) {
    const Type x = b.type(in[0]);
    const std::int64_t n = x.shape.last();
    Values parts;
    if (op.begin > 0) parts.push_back(b.constant({x.dtype, with_last(x.shape, op.begin)}, 0));
    parts.push_back(dout[0]);
    if (op.end < n) parts.push_back(b.constant({x.dtype, with_last(x.shape, n - op.end)}, 0));
    return {parts.size() == 1 ? dout[0] : b.one(Concat{}, parts)};
}

constexpr RulesFor<Slice> kSlice{.type = type, .vjp = vjp};

}  // namespace

const Rules& rules(const Slice&) { return kRules<kSlice>; }

}  // namespace octavo
