#include "engine/kv_scales.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace octavo {

std::int64_t calibration_index(std::int64_t count) {
    // nearbyint rounds to even, as Python's round does.
    return std::int64_t(std::nearbyint(0.999 * static_cast<double>(count - 1)));
}

float calibration_amax(std::vector<float> maxima) {
    check(!maxima.empty(), "calibration: expected a maximum for each micro-batch, got none");
    for (const float m : maxima) {
        check(std::isfinite(m) && m >= 0,
              "calibration: expected finite maxima, got {}\n  Training has diverged.", m);
    }
    const auto at = maxima.begin() + calibration_index(std::ssize(maxima));
    std::ranges::nth_element(maxima, at);
    return *at;
}

float calibrated_scale(std::span<const float> amaxes) {
    check(!amaxes.empty(), "calibration: expected an amax for each rank, got none");
    const float amax = *std::ranges::max_element(amaxes);
    return amax == 0 ? 1.0f : static_cast<float>(1.05 * double{amax} / 448);
}

}  // namespace octavo
