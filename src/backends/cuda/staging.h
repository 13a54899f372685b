// The way from pageable host memory to the GPU: through page-locked buffers, so that the caller
// goes on as soon as the bytes are copied there, while the GPU may still be busy with earlier work.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "backends/cuda/device.h"

namespace octavo::cuda {

class Staging {
  public:
    Staging() = default;
    ~Staging();
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;

    // Ordered after what was launched before. Waits only if all buffers are on their way.
    void send(std::byte* to, const std::byte* from, std::int64_t bytes);

  private:
    static constexpr std::int64_t kBytes = std::int64_t{4} << 20;  // of a buffer

    struct Slot {
        std::byte* memory = nullptr;
        cudaEvent_t sent = nullptr;
    };
    Slot& next_free();

    std::array<Slot, 8> slots_;
    std::size_t next_ = 0;
};

}  // namespace octavo::cuda
