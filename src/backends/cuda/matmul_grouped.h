// Kernels for the products of groups that Matmul has for mixtures of experts.
#pragma once

#include "backends/kernels.h"

namespace octavo::cuda {

// BF16 and FP8 on the tensor cores, where experts are aligned to 128 rows.
Refusal reject_grouped_wgmma(const NodeView&);
Prepared prepare_grouped_wgmma(const NodeView&);

// Plain operands and codes under one scale, of any alignment: the reference, on no tensor cores.
Refusal reject_grouped_simple(const NodeView&);
Prepared prepare_grouped_simple(const NodeView&);

}  // namespace octavo::cuda
