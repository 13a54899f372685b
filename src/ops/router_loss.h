// The routers that RouterLoss and its gradient look at.
#pragma once

#include "graph/builder.h"

namespace octavo {

// Operands from `first` on: logits (T, E) f32 (f64) and ids (T, k) i32, alike for all.
inline void expect_routers(const Operands& in, std::size_t first) {
    check(in.size() > first + 1 && (in.size() - first) % 2 == 0,
          "router_loss: expected logits and ids of one router or more, got {} operands", in.size());
    in.expect_float(first);
    in.expect_rank(first, 2);
    in.expect_dtype(first, accumulator(in[first].dtype));
    in.expect_rank(first + 1, 2);
    in.expect_dtype(first + 1, Dtype::i32);
    in.expect_shape(first + 1, {in[first].shape[0], in[first + 1].shape[1]});
    for (std::size_t i = first + 2; i < in.size(); i += 2) {
        in.expect_like(i, first);
        in.expect_like(i + 1, first + 1);
    }
}

}  // namespace octavo
