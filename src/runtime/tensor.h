// Tensors as kernels see them: a type and addresses that are fixed when a plan is bound to memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "graph/type.h"

namespace octavo {

struct TensorRef {
    Type type;
    void* data = nullptr;            // codes or plain values
    void* scale = nullptr;           // f32 or e8m0, scale_count(type) of them; null when unscaled
    std::uint8_t* groups = nullptr;  // micro scaling: one E8M0 exponent per group

    template <class T>
    T* as() const {
        return static_cast<T*>(data);
    }
    float* scales() const { return static_cast<float*>(scale); }
};

// The tensor whose parts lie one after another from `base`, each aligned to kPartAlignment.
TensorRef tensor_at(const Type&, std::byte* base);

}  // namespace octavo
