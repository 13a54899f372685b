// How far the GPU has come. A fault shows at a later call, by when whole plans may have been
// launched. So launches of a kernel that writes a number to memory of the host stand between the
// steps of a plan, in its CUDA graph too; the last number that arrived says where the GPU stopped.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/trail_map.h"
#include "runtime/backend.h"

namespace octavo::cuda {

// Steps between two marks, of which a fault names all: a mark costs a launch, about a microsecond
// on the GPU.
inline constexpr std::size_t kMarkSpacing = 8;

std::unique_ptr<Trail> make_trail(const std::string& plan, const std::vector<std::string>& steps,
                                  std::size_t spacing);

// Where the GPU is, or stopped.
Stretch last_stretch();

// Whether a fault has been reported. The driver then crashes on some of what it is asked to
// destroy.
bool faulted();

}  // namespace octavo::cuda
