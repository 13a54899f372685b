// Kernels for the products of groups that Matmul has for mixtures of experts.
#pragma once

#include "backends/kernels.h"

namespace octavo::cuda {

// Plain operands and codes under one scale, of any alignment: the reference, on no tensor cores.
Refusal reject_grouped_simple(const NodeView&);
Prepared prepare_grouped_simple(const NodeView&);

}  // namespace octavo::cuda
