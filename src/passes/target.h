// What passes need to know about the backend they prepare a graph for.
#pragma once

#include <cstdint>

#include "graph/op.h"

namespace octavo {

struct Target {
    // Logits that a fused head holds at a time: enough rows to keep the processor busy.
    std::int64_t head_chunk_bytes = std::int64_t{64} << 20;
    // FP8 products read both operands along K only, so transposed ones need copies.
    bool k_major_fp8 = false;
    // Products add their result to an activation or its gradient for nothing, and round once.
    bool accumulate_products = false;
    // Whether a product with a bias, `a` by `b`, adds it for nothing; null: none does.
    bool (*adds_bias)(const Matmul&, const Type& a, const Type& b) = nullptr;
    // The rows of an expert begin at multiples of this: products of groups take whole tiles.
    std::int64_t expert_rows = 1;
    // Kernels of generation that read the columns of joined products as they lie.
    bool reads_joined = false;
    // Quantisers that compute what they quantise save passes over memory.
    bool fused_quantisers = false;
};

}  // namespace octavo
