// Descriptions of matrices for the bulk copies of Hopper's tensor memory accelerator.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace octavo::cuda {

// A dense tensor of two or three extents, fastest first, that is copied in boxes of 128 bytes x
// box_rows (x 1), in the 128-byte swizzle. What lies outside is read as zeros and not written. It
// starts at a multiple of 16 bytes, as do its rows.
CUtensorMap tensor_map(const void* data, Dtype, std::span<const std::int64_t> extents,
                       int box_rows);

}  // namespace octavo::cuda
