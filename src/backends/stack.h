// Matrices of a stack (E, M, N).
#pragma once

#include "base/dtype_traits.h"
#include "runtime/tensor.h"

namespace octavo {

inline Type matrix_of(const Type& stack) {
    return {stack.dtype, {stack.shape[1], stack.shape[2]}, stack.scaling};
}

// Matrix `e` of a stack of plain values, or under one scale, which all matrices share, or under
// 128x128 blocks that do not reach across matrices.
inline TensorRef matrix_of(const TensorRef& stack, std::int64_t e) {
    TensorRef m{matrix_of(stack.type), nullptr, stack.scale, nullptr};
    m.data = stack.as<std::byte>() +
             e * m.type.shape.elements() * static_cast<std::int64_t>(size_of(m.type.dtype));
    if (m.type.scaling.granularity == Granularity::block_128x128) {
        m.scale = stack.scales() + e * scale_count(m.type);
    }
    return m;
}

}  // namespace octavo
