#include "backends/cpu/cpu.h"

#include <sys/mman.h>

#include <chrono>
#include <cstring>

#include "backends/cpu/kernels.h"
#include "base/parallel.h"
#include "base/process.h"

namespace octavo {
namespace {

// On all cores: one of them does not fill the memory bus, and fills pages of files at half that
// rate.
void copy_apart(std::byte* to, const std::byte* from, std::int64_t bytes) {
    constexpr std::int64_t kGrain = 4 << 20;
    parallel_for(bytes, kGrain, [&](std::int64_t begin, std::int64_t end) {
        std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin));
    });
}

// Kernels are over when they return.
class CpuStopwatch final : public Stopwatch {
  public:
    void mark() override { marks_.push_back(std::chrono::steady_clock::now()); }
    std::vector<double> intervals() override {
        std::vector<double> seconds;
        for (std::size_t i = 1; i < marks_.size(); ++i) {
            seconds.push_back(std::chrono::duration<double>(marks_[i] - marks_[i - 1]).count());
        }
        return seconds;
    }

  private:
    std::vector<std::chrono::steady_clock::time_point> marks_;
};

class CpuBackend final : public Backend {
  public:
    explicit CpuBackend(cpu::Products products) : kernels_(cpu::kernel_registry(products)) {}

    std::string_view name() const override { return "cpu"; }
    const KernelRegistry& kernels() const override { return kernels_; }

    // Straight from the system, which zeroes it, and with transparent huge pages, which spare large
    // arenas most of their TLB misses.
    std::byte* allocate(std::int64_t bytes) override {
        if (bytes == 0) return nullptr;
        void* memory = mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(memory != MAP_FAILED, "cannot allocate {} bytes of memory", bytes);
        madvise(memory, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
        return static_cast<std::byte*>(memory);
    }
    void release(std::byte* memory, std::int64_t bytes) override {
        if (memory) munmap(memory, static_cast<std::size_t>(bytes));
    }

    std::int64_t available_bytes() const override { return machine_memory().available; }

    void copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) override {
        copy_apart(device, host, bytes);
    }
    void copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) override {
        copy_apart(host, device, bytes);
    }
    void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override {
        if (bytes > 0) std::memmove(to, from, static_cast<std::size_t>(bytes));
    }
    void synchronize() override {}
    std::unique_ptr<Stopwatch> make_stopwatch() override {
        return std::make_unique<CpuStopwatch>();
    }

  private:
    const KernelRegistry& kernels_;
};

}  // namespace

namespace cpu {

namespace {

template <class T>
void register_op(KernelRegistry& r, void (*fast)(KernelRegistry&), Products products) {
    const bool by_rows = std::is_same_v<T, Matmul> && products == Products::by_rows;
    (by_rows ? register_matmul_by_rows : fast)(r);
}

KernelRegistry make_registry(Products products) {
    KernelRegistry r;
#define OP(T, file) register_op<T>(r, register_##file, products);
#include "graph/ops.inc"
#undef OP
    return r;
}

}  // namespace

const KernelRegistry& kernel_registry(Products products) {
    static const KernelRegistry fast = make_registry(Products::fast),
                                by_rows = make_registry(Products::by_rows);
    return products == Products::fast ? fast : by_rows;
}

}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
    return std::make_unique<CpuBackend>(options.reference ? cpu::Products::by_rows
                                                          : cpu::Products::fast);
}

}  // namespace octavo
