// Operands that Dispatch, Combine and its gradient share: what ExpertOrder gives.
#pragma once

#include "graph/rules.h"

namespace octavo {

// `rows` (T, k) i32 and `choices` (R) i32 as operands i and i + 1.
inline void expect_expert_rows(const Operands& in, std::size_t i) {
    in.expect_rank(i, 2);
    in.expect_dtype(i, Dtype::i32);
    in.expect_rank(i + 1, 1);
    in.expect_dtype(i + 1, Dtype::i32);
}

}  // namespace octavo
