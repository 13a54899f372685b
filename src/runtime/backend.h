// What a device must offer: memory, copies, and kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "passes/target.h"
#include "runtime/kernel.h"

namespace octavo {

// The device itself failed, at work that was launched some time before the call that reports it,
// and nothing on it can be read any more.
class DeviceFault : public Error {
  public:
    using Error::Error;
    explicit DeviceFault(const Error& error) : Error(error) {}
};

// How far the device has come in a plan whose launches it works off later, so that a fault can be
// told by name.
class Trail {
  public:
    virtual ~Trail() = default;
    // The plan is launched, or what was recorded of it.
    virtual void begin() = 0;
    // Its step of this number was launched; a launch like any other, which is recorded with it.
    virtual void passed(std::size_t step) = 0;
};

// Marks moments in the order of launched kernels, to be read when all are over.
class Stopwatch {
  public:
    virtual ~Stopwatch() = default;
    virtual void mark() = 0;
    // Seconds between neighbouring marks; waits for the last.
    virtual std::vector<double> intervals() = 0;
};

class Backend {
  public:
    virtual ~Backend() = default;

    virtual std::string_view name() const = 0;
    virtual const KernelRegistry& kernels() const = 0;

    // What graphs for this backend should look like.
    virtual Target target() const { return {}; }
    // Extent of a square product that is large enough to show what the device can do.
    virtual std::int64_t yardstick() const { return 1024; }

    // Zero-filled device memory, aligned to 64 bytes or better. Throws Error when there is none.
    virtual std::byte* allocate(std::int64_t bytes) = 0;
    virtual void release(std::byte* memory, std::int64_t bytes) = 0;
    // Bytes this process can still allocate.
    virtual std::int64_t available_bytes() const = 0;
    // Who has the rest, as a clause that follows that number; empty where there is nothing to say.
    virtual std::string memory_note() const { return ""; }

    // Between host and device memory, and within the device; ordered after all launched kernels.
    virtual void copy_in(std::byte* device, const std::byte* host, std::int64_t bytes) = 0;
    virtual void copy_out(std::byte* host, const std::byte* device, std::int64_t bytes) = 0;
    virtual void copy(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;
    virtual void synchronize() = 0;

    virtual std::unique_ptr<Stopwatch> make_stopwatch() = 0;

    // For a plan of this name with these steps; null where faults arrive with the call that causes
    // them.
    virtual std::unique_ptr<Trail> make_trail(const std::string& /*plan*/,
                                              const std::vector<std::string>& /*steps*/) {
        return nullptr;
    }

    // A call that does what `launch` does, again and again: what a GPU records once and replays.
    // `launch` must do the same each time, and must have run before.
    virtual std::function<void()> record(const std::function<void()>& launch) { return launch; }
};

// Device memory with an owner.
class Buffer {
  public:
    Buffer() = default;
    Buffer(Backend& backend, std::int64_t bytes)
        : backend_(&backend), data_(backend.allocate(bytes)), bytes_(bytes) {}
    ~Buffer() { reset(); }
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        if (this != &other) {
            reset();
            backend_ = std::exchange(other.backend_, nullptr);
            data_ = std::exchange(other.data_, nullptr);
            bytes_ = std::exchange(other.bytes_, 0);
        }
        return *this;
    }

    std::byte* data() const { return data_; }
    std::int64_t bytes() const { return bytes_; }

  private:
    void reset() {
        if (backend_) backend_->release(data_, bytes_);
    }
    Backend* backend_ = nullptr;
    std::byte* data_ = nullptr;
    std::int64_t bytes_ = 0;
};

}  // namespace octavo
