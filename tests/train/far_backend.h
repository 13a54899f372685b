// Memory that the host cannot address, as on a device: whoever follows its pointers crashes.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include "runtime/backend.h"

namespace octavo {

class FarBackend : public Backend {
  public:
    std::string_view name() const override { return "far"; }
    const KernelRegistry& kernels() const override { return registry_; }

    std::byte* allocate(std::int64_t bytes) override {
        return moved(new std::byte[static_cast<std::size_t>(bytes)]{}, kFar);
    }
    void release(std::byte* memory, std::int64_t) override { delete[] near(memory); }
    std::int64_t available_bytes() const override {
        return std::numeric_limits<std::int64_t>::max();
    }
    void copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) override {
        if (bytes > 0) std::memcpy(near(device), host, static_cast<std::size_t>(bytes));
    }
    void copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) override {
        if (bytes > 0) std::memcpy(host, near(device), static_cast<std::size_t>(bytes));
    }
    void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override {
        if (bytes > 0) std::memmove(near(to), near(from), static_cast<std::size_t>(bytes));
    }
    std::unique_ptr<Stopwatch> make_stopwatch() override { return nullptr; }
    void synchronize() override {}

  private:
    static constexpr std::uintptr_t kFar = std::uintptr_t{1} << 60;

    static std::byte* moved(const std::byte* p, std::uintptr_t by) {
        return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(p) + by);
    }
    static std::byte* near(const std::byte* p) { return p ? moved(p, -kFar) : nullptr; }

    KernelRegistry registry_;
};

}  // namespace octavo
