// The columns of x in pieces, copied: the inverse of Concat.
//     x (..., N0 + N1 + ...) -> y0 (..., N0), y1 (..., N1), ...
#include <algorithm>
#include <numeric>

#include "graph/scaled.h"

namespace octavo {
namespace {

Types type(const Split& op, Operands in) {
    in.expect_count(1);
    in.expect_float(0);
    const auto sum = std::accumulate(op.sizes.begin(), op.sizes.end(), std::int64_t{0});
    const bool fits = std::all_of(op.sizes.begin(), op.sizes.end(), [](auto n) { return n >= 0; });
    check(in[0].shape.rank() > 0 && fits && sum == in[0].shape.last(),
          "split: {} pieces of {} columns together cannot be taken from {}", op.sizes.size(), sum,
          to_string(in[0]));
    Types pieces;
    for (const std::int64_t n : op.sizes) {
        pieces.push_back(in[0]);
        pieces.back().shape[-1] = n;
    }
    return pieces;
}

Values vjp(Builder& b, const Split&, const Values& in, const Values&, const Values& dout) {
    for (std::size_t i = 0; i < dout.size(); ++i) {
        check(bool(dout[i]),
              "split '{}': no gradient flows to piece {}\n  Split off only what the loss uses.",
              b.label(), i);
    }
    return Values(in.size(), b.one(Concat{}, dout));
}

ScaledValues scale(ScaleBuilder& s, const Split& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<Split> kSplit{.type = type, .vjp = vjp, .scale = scale};

}  // namespace

const Rules& rules(const Split&) { return kRules<kSplit>; }

}  // namespace octavo
