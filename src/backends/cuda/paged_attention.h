// The kernels of attention over a cache in blocks.
#pragma once

#include "backends/cuda/kernels.h"

namespace octavo::cuda {

// On tensor cores, for bf16 with heads of 64 or 128 elements: one row of each sequence.
Refusal reject_paged_decode(const NodeView&);
Prepared prepare_paged_decode(const NodeView&);

// The same for several rows.
Refusal reject_paged_prefill(const NodeView&);
Prepared prepare_paged_prefill(const NodeView&);

// Any node with heads of up to 256 elements: a warp for each query of a head.
Refusal reject_paged_rows(const NodeView&);
Prepared prepare_paged_rows(const NodeView&);

}  // namespace octavo::cuda
