// Products of scaled operands through f32: for shapes that no faster kernel takes.
#pragma once

#include <vector>

#include "backends/kernels.h"

namespace octavo {

// dequantise(x, y) writes the values of x to y, f32 of the same shape.
template <class Dequantise>
Prepared prepare_matmul_dequantised(const KernelRegistry& registry, const NodeView& node,
                                    Dequantise dequantise) {
    const auto op = std::get<Matmul>(node.op);
    const Type a{Dtype::f32, node.in[0].shape}, b{Dtype::f32, node.in[1].shape};
    std::vector<Type> operands(node.in.begin(), node.in.end());
    operands[0] = a;
    operands[1] = b;
    const Prepared product = prepare_op(registry, op, operands);
    ScratchCounter scratch;
    const std::int64_t a_at = scratch.reserve(total_bytes(a));
    const std::int64_t b_at = scratch.reserve(total_bytes(b));
    const std::int64_t rest = scratch.reserve(product.scratch_bytes);
    const auto run = [=](const KernelCall& call) {
        std::vector<TensorRef> in(call.in.begin(), call.in.end());
        in[0] = tensor_at(a, call.scratch + a_at);
        in[1] = tensor_at(b, call.scratch + b_at);
        for (std::size_t i = 0; i < 2; ++i) dequantise(call.in[i], in[i]);
        product.run({in, call.out, call.scratch + rest});
    };
    return {run, scratch.bytes()};
}

}  // namespace octavo
