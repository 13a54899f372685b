// Clock and power of the GPU while something runs on it: `gpu_load` several times a second.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/backend.h"

namespace octavo {

class LoadSampler {
  public:
    // Of the GPU that `backend` computes on, if it does on one.
    explicit LoadSampler(const Backend& backend)
        : on_gpu_(backend.name() != "cpu"), thread_([this] { sample(); }) {}
    ~LoadSampler() { (void)stop(); }
    LoadSampler(const LoadSampler&) = delete;
    LoadSampler& operator=(const LoadSampler&) = delete;

    // Ends it. The means by name; none where nothing could be read.
    std::map<std::string, double> stop();

  private:
    void sample();

    std::mutex mutex_;
    std::condition_variable stopped_;
    bool on_gpu_, stop_ = false;
    std::map<std::string, double> sums_;
    int samples_ = 0;
    std::thread thread_;  // the last: it uses the others
};

}  // namespace octavo
