#include "backends/cuda/staging.h"

#include <algorithm>

#include "backends/cuda/breadcrumbs.h"

namespace octavo::cuda {

Staging::~Staging() {
    for (const Slot& slot : slots_) {
        if (faulted()) return;
        if (slot.sent) cudaEventDestroy(slot.sent);
        if (slot.memory) cudaFreeHost(slot.memory);
    }
}

Staging::Slot& Staging::next_free() {
    Slot& slot = slots_[next_++ % slots_.size()];
    if (slot.memory) {
        expect(cudaEventSynchronize(slot.sent), "cudaEventSynchronize");
        return slot;
    }
    if (!slot.sent) {
        expect(cudaEventCreateWithFlags(&slot.sent, cudaEventDisableTiming), "cudaEventCreate");
    }
    expect(cudaMallocHost(reinterpret_cast<void**>(&slot.memory), kBytes), "cudaMallocHost");
    return slot;
}

void Staging::send(std::byte* to, const std::byte* from, std::int64_t bytes) {
    for (std::int64_t at = 0; at < bytes; at += kBytes) {
        const std::int64_t n = std::min(kBytes, bytes - at);
        Slot& slot = next_free();
        std::copy_n(from + at, n, slot.memory);
        expect(cudaMemcpyAsync(to + at, slot.memory, static_cast<std::size_t>(n),
                               cudaMemcpyHostToDevice, stream()),
               "cudaMemcpyAsync");
        expect(cudaEventRecord(slot.sent, stream()), "cudaEventRecord");
    }
}

}  // namespace octavo::cuda
