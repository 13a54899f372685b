// Runs of 128 elements along rows, without tiles: for matrices of few rows, as decoding has them.
#pragma once

#include "backends/cuda/kernels.h"

namespace octavo::cuda {

// bf16 under scales per 1x128, not turned around, one result.
Refusal reject_block_quantise_rows(const NodeView&);
Prepared prepare_block_quantise_rows(const NodeView&);

}  // namespace octavo::cuda
