// Shared by the kernels of all backends.
#pragma once

#include "base/dtype_traits.h"
#include "runtime/kernel.h"

namespace octavo {

// Arithmetic type of a kernel over elements of T: double stays double (the gradient checks run
// whole graphs in f64), everything else computes in float.
template <class T>
using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

// dispatch_float without the 8-bit formats, for kernels over plain values.
template <class F>
Prepared dispatch_plain(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::f64:
            return f(std::type_identity<double>{});
        case Dtype::f32:
            return f(std::type_identity<float>{});
        case Dtype::bf16:
            return f(std::type_identity<bf16>{});
        case Dtype::f16:
            return f(std::type_identity<f16>{});
        default:
            fail("no kernel takes {} elements here", name(dtype));
    }
}

// For views: the result is the operand's memory (Rules::view), so there is nothing to do.
inline Prepared prepare_view(const NodeView&) {
    return {[](const KernelCall&) {}};
}

// Scratch is handed out front to back: first when it is counted, then when it is used.
class ScratchCounter {
  public:
    // Returns the offset of the bytes it reserves.
    std::int64_t reserve(std::int64_t bytes) {
        const std::int64_t offset = bytes_;
        bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
        return offset;
    }
    std::int64_t bytes() const { return bytes_; }

  private:
    static constexpr std::int64_t kAlignment = 256;  // what GPU libraries ask of a workspace
    std::int64_t bytes_ = 0;
};

}  // namespace octavo
