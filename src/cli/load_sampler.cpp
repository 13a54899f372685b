#include "cli/load_sampler.h"

#include <chrono>

#include "cli/device.h"

namespace octavo {

void LoadSampler::sample() {
    std::unique_lock lock(mutex_);
    while (!stopped_.wait_for(lock, std::chrono::milliseconds(50), [this] { return stop_; })) {
        if (!on_gpu_) continue;
        for (const auto& [name, value] : gpu_load()) sums_[name] += value;
        ++samples_;
    }
}

std::map<std::string, double> LoadSampler::stop() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    stopped_.notify_one();
    if (thread_.joinable()) thread_.join();
    std::map<std::string, double> means = sums_;
    for (auto& [name, sum] : means) sum /= samples_;
    return means;
}

}  // namespace octavo
