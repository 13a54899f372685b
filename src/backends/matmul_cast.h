// Products that give codes, where no kernel rounds its sums to codes by itself: in f32, then cast.
#pragma once

#include <algorithm>

#include "backends/kernels.h"

namespace octavo {

inline Refusal reject_matmul_cast(const NodeView& node) {
    if (is_fp8(node.out[0].dtype)) return std::nullopt;
    return "the result is not FP8";
}

inline Prepared prepare_matmul_cast(const KernelRegistry& registry, const NodeView& node) {
    Matmul wide = std::get<Matmul>(node.op);
    wide.out = Dtype::f32;
    const Type sums{Dtype::f32, node.out[0].shape};
    const Prepared product = prepare_op(registry, wide, node.in);
    const Prepared cast = prepare_op(registry, Cast{node.out[0].dtype}, {&sums, 1});
    ScratchCounter scratch;
    const std::int64_t sums_at = scratch.reserve(total_bytes(sums));
    const std::int64_t rest = scratch.reserve(std::max(product.scratch_bytes, cast.scratch_bytes));
    const auto run = [=](const KernelCall& call) {
        const TensorRef c = tensor_at(sums, call.scratch + sums_at);
        product.run({call.in, {&c, 1}, call.scratch + rest});
        cast.run({{&c, 1}, call.out, call.scratch + rest});
    };
    return {run, scratch.bytes()};
}

}  // namespace octavo
