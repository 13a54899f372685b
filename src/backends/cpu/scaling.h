// The numerics that the kernels of quantisers and scales share, in parallel over elements. Results
// do not depend on the number of threads: a maximum can be taken in any order.
#pragma once

#include <atomic>
#include <bit>

#include "graph/op.h"
#include "runtime/tensor.h"

namespace octavo::cpu {

inline std::byte* element(const TensorRef& t, std::int64_t i) {
    return t.as<std::byte>() + i * static_cast<std::int64_t>(size_of(t.type.dtype));
}

// The largest of the amaxes that threads find. Without their sign, floats order like their bits,
// NaN above infinity.
class SharedAmax {
  public:
    void raise(float amax) {
        const auto bits = std::bit_cast<std::uint32_t>(amax);
        std::uint32_t seen = top_.load();
        while (seen < bits && !top_.compare_exchange_weak(seen, bits)) {
        }
    }
    float value() const { return std::bit_cast<float>(top_.load()); }

  private:
    std::atomic<std::uint32_t> top_ = 0;
};

// max |x|; 0 for no elements, NaN before infinity before numbers.
float tensor_amax(const TensorRef& x);
// y's codes from x under `scale`, which becomes y's.
void quantise_tensor(const TensorRef& x, float scale, const TensorRef& y);
// Both in one pass over x.
float quantise_tensor_amax(const TensorRef& x, float scale, const TensorRef& y);

// The scale for a tensor with this amax; `old` where it is no basis for one.
float next_scale(const ScaleRule&, float amax, float old);

// The window is not filled yet: the scale comes from the tensor itself.
inline bool just_in_time(const TensorRef& history, const TensorRef& counter) {
    return *counter.as<std::int32_t>() < history.type.shape[0];
}
// `updated` = `history` with this amax in slot 0, where NaN counts as infinity: AdvanceScale must
// see that something was not finite, and a maximum would drop a NaN.
void note_amax(const TensorRef& history, float amax, const TensorRef& updated);

}  // namespace octavo::cpu
