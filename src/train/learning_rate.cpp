#include "train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace octavo {

double learning_rate(const RunConfig::Train& c, std::int64_t step) {
    const auto s = static_cast<double>(step), steps = static_cast<double>(c.steps);
    const auto warmup = static_cast<double>(c.warmup_steps);
    if (s < warmup) return c.lr * s / warmup;
    // 0 at the end of warm-up, 1 on the last step.
    const double progress = steps > warmup ? (s - warmup) / (steps - warmup) : 1.0;
    const double floor = c.min_lr_ratio;
    if (c.schedule == "constant") return c.lr;
    if (c.schedule == "linear") return c.lr * (1.0 - (1.0 - floor) * progress);
    if (c.schedule == "cosine") {
        return c.lr * (floor + (1.0 - floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
    }
    if (c.schedule == "wsd") {  // warm-up, stable, decay (Hu et al., arXiv 2404.06395)
        const double decay = c.decay_fraction * steps;
        const double into = decay > 0 ? std::max(0.0, (s - (steps - decay)) / decay) : 0.0;
        return c.lr * (1.0 - (1.0 - floor) * into);
    }
    fail_usage("train.schedule: expected cosine, linear, wsd or constant, got '{}'", c.schedule);
}

}  // namespace octavo
