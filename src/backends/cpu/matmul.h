// Matrix products for the kernels of matmul and for those that contain one.
#pragma once

#include "backends/cpu/kernels.h"
#include "base/scale_rule.h"

namespace octavo::cpu {

// Kernels for a node with one Matmul. Their parts are in files of their own.
Refusal reject_gemv(const NodeView&);
Prepared prepare_gemv(const NodeView&);
Prepared prepare_matmul_reference(const NodeView&);
Prepared prepare_matmul_grouped(const NodeView&, Products);
// Operands under scales per row, block or group: nullopt if this node has them.
Refusal reject_blocks(const NodeView&);
Prepared prepare_blocks(const NodeView&);
Refusal reject_dequantised(const NodeView&);
Prepared prepare_dequantised(const NodeView&);
// The opposite: a refusal if this node has them.
Refusal reject_fine_scales(const NodeView&);

// The product a node asks for, its operands seen as matrices.
struct MatmulExtents {
    std::int64_t m, n, k;
};
MatmulExtents matmul_extents(const NodeView&);

// What the product of what lies in memory is multiplied by: the scales of both operands, or a
// factor.
inline float product_scale(const KernelCall& call, int exponent) {
    float scale = power_of_two(exponent);
    for (const TensorRef& t : call.in.first(2)) {
        if (t.scale) scale *= *t.scales();
    }
    return scale;
}

// `n` elements, by all threads, times `scale`.
void convert_parallel(const void* from, Dtype from_dtype, void* to, Dtype to_dtype, std::int64_t n,
                      float scale = 1.0f);

}  // namespace octavo::cpu
