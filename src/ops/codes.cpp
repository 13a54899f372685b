// The codes of a tensor under one scale as plain values; nothing is moved. Their scale is known to
// whoever asks for them.     x codes under one scale -> y of x's dtype
#include "graph/scaled.h"
#include "ops/scaling.h"

namespace octavo {
namespace {

Types type(const Codes&, Operands in) {
    in.expect_count(1);
    expect_scaled("codes", in, 0);
    return {{in[0].dtype, in[0].shape}};
}

ScaledValues scale(ScaleBuilder& s, const Codes& op, const ScaledValues& in) {
    return like_first(s, op, in);
}

constexpr RulesFor<Codes> kCodes{.type = type, .scale = scale, .view = true};

}  // namespace

const Rules& rules(const Codes&) { return kRules<kCodes>; }

}  // namespace octavo
