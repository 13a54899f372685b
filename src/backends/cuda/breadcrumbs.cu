#include "backends/cuda/breadcrumbs.h"

#include "backends/cuda/device.h"

namespace octavo::cuda {
namespace {

TrailMap& trails() {
    static TrailMap map;
    return map;
}

// Page-locked, so that the GPU writes to it and the host reads it even when the GPU has failed;
// kept until the process ends.
volatile std::uint32_t* g_mark = nullptr;

std::uint32_t g_running = 0;  // the trail that began last

volatile std::uint32_t* mark_memory() {
    if (!g_mark) {
        void* memory = nullptr;
        expect(cudaHostAlloc(&memory, sizeof(std::uint32_t), cudaHostAllocMapped), "cudaHostAlloc");
        g_mark = static_cast<volatile std::uint32_t*>(memory);
        *g_mark = 0;
    }
    return g_mark;
}

__global__ void leave_mark_kernel(volatile std::uint32_t* to, std::uint32_t mark) { *to = mark; }

class Breadcrumbs final : public Trail {
  public:
    Breadcrumbs(const std::string& plan, const std::vector<std::string>& steps, std::size_t spacing)
        : count_(steps.size()),
          spacing_(spacing),
          memory_(mark_memory()),
          first_(trails().add(plan, steps, spacing)) {}
    ~Breadcrumbs() override { trails().remove(first_); }
    Breadcrumbs(const Breadcrumbs&) = delete;
    Breadcrumbs& operator=(const Breadcrumbs&) = delete;

    void begin() override {
        // What has no marks of its own, and runs again, leaves nothing new: as in measurements.
        if (count_ <= spacing_ && g_running == first_) return;
        leave(first_);
        g_running = first_;
    }
    void passed(std::size_t step) override {
        if (is_marked(step, count_, spacing_)) {
            leave(first_ + static_cast<std::uint32_t>(step) + 1);
        }
    }

  private:
    void leave(std::uint32_t mark) const {
        leave_mark_kernel<<<1, 1, 0, stream()>>>(memory_, mark);
        launched("leave_mark");
    }

    std::size_t count_, spacing_;
    volatile std::uint32_t* memory_;
    std::uint32_t first_;
};

}  // namespace

std::unique_ptr<Trail> make_trail(const std::string& plan, const std::vector<std::string>& steps,
                                  std::size_t spacing) {
    return std::make_unique<Breadcrumbs>(plan, steps, spacing);
}

Stretch last_stretch() { return g_mark ? trails().after(*g_mark) : Stretch{}; }

}  // namespace octavo::cuda
