// What casts to 8-bit floats do not have to saturate, for every backend alike.
#pragma once

#include "base/scale_rule.h"
#include "graph/op.h"

namespace octavo {

// Whether x factor rounds to a finite code without being cut off: it does below the tie above the
// largest value, and perhaps on it.
struct FitsFormat {
    float factor = 1, tie = 0;
    bool tie_fits = false;

    template <class C>
    constexpr bool operator()(C x) const {
        const C v = (x < C(0) ? -x : x) * C(factor);
        return v < C(tie) || (tie_fits && v == C(tie));
    }
};

// The largest significand of E4M3 is even, so that the tie above it is rounded down; that of E5M2
// is odd.
constexpr FitsFormat fits_format(const OverflowToNan& op) {
    const bool even = op.to == Dtype::e4m3;
    return {power_of_two(op.exponent), even ? 464.0f : 61440.0f, even};
}

}  // namespace octavo
