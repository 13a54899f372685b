#include "backends/cuda/trail_map.h"

#include <fmt/format.h>

#include <utility>

namespace octavo::cuda {

std::uint32_t TrailMap::add(std::string plan, std::vector<std::string> steps, std::size_t spacing) {
    const std::uint32_t first = next_;
    next_ += static_cast<std::uint32_t>(steps.size()) + 1;
    trails_[first] = {std::move(plan), std::move(steps), spacing};
    return first;
}

void TrailMap::remove(std::uint32_t first) { trails_.erase(first); }

Stretch TrailMap::after(std::uint32_t mark) const {
    auto it = trails_.upper_bound(mark);
    if (it == trails_.begin()) return {};
    const auto& [first, trail] = *--it;
    const std::size_t done = mark - first, count = trail.steps.size();
    if (done > count) return {};  // of a plan that is gone
    Stretch stretch{trail.plan, {}};
    for (std::size_t i = done; i < count; ++i) {
        stretch.steps.push_back(trail.steps[i]);
        if (is_marked(i, count, trail.spacing)) break;
    }
    return stretch;
}

std::string fault_text(std::string_view what, const Stretch& stretch) {
    constexpr std::string_view kTool =
        "compute-sanitizer octavo ... names the kernel and the thread.";
    if (stretch.plan.empty())
        return fmt::format("CUDA: {}, outside of any plan\n  {}", what, kTool);
    if (stretch.steps.empty()) {
        return fmt::format("CUDA: {}, after plan '{}' had ended\n  {}", what, stretch.plan, kTool);
    }
    if (stretch.steps.size() == 1) {
        return fmt::format("CUDA: {}, in plan '{}' at {}\n  {}", what, stretch.plan,
                           stretch.steps[0], kTool);
    }
    return fmt::format(
        "CUDA: {}, in plan '{}' at one of {} steps:\n  {}\n  With --runtime.trace=true the error "
        "names the one; {}",
        what, stretch.plan, stretch.steps.size(), fmt::join(stretch.steps, "\n  "), kTool);
}

}  // namespace octavo::cuda
