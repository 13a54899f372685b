// What others ask of products: whether they add a bias (Target::adds_bias), and those of matrices
// whose rows do not follow each other without gaps, as steps of other kernels.
#pragma once

#include "backends/head_loss.h"

namespace octavo::cuda {

bool adds_bias(const Matmul&, const Type& a, const Type& b);

// As Matmul does it for unscaled operands of one dtype, into that or its accumulator's. A result
// with gaps is not accumulated.
Prepared prepare_strided_matmul(const Matmul&, const Type& a, const Type& b, const RowStrides&);

}  // namespace octavo::cuda
