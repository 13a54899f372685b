// For kernels that multiply two matrices, and none for each group.
#pragma once

#include "backends/kernels.h"

namespace octavo {

inline Refusal reject_ungrouped(const NodeView& node) {
    if (std::get<Matmul>(node.op).groups > 0) return std::nullopt;
    return "there are no groups";
}

template <Refusal (*reject)(const NodeView&)>
Refusal ungrouped(const NodeView& node) {
    if (std::get<Matmul>(node.op).groups > 0) return "it knows no groups";
    return reject(node);
}

}  // namespace octavo
