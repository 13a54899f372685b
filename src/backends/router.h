// The arithmetic of routers for one token, for every backend alike: plain code that also compiles
// for a GPU.
#pragma once

#include <cstdint>

namespace octavo {

// The order in which experts are chosen: by their logits, the largest first and NaN last, then by
// their numbers.
template <class C>
constexpr bool chosen_before(C a, std::int64_t a_expert, C b, std::int64_t b_expert) {
    if ((a != a) != (b != b)) return b != b;
    if (a > b || a < b) return a > b;
    return a_expert < b_expert;
}

}  // namespace octavo
