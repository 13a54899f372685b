// Shared by the kernels of this folder: one file per op, each with one register function.
#pragma once

#include "backends/kernels.h"

namespace octavo::cuda {

#define OP(T, file) void register_##file(KernelRegistry&);
#include "graph/ops.inc"
#undef OP

// All of them.
const KernelRegistry& kernel_registry();

}  // namespace octavo::cuda
