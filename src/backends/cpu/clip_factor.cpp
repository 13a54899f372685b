#include <cmath>
#include <limits>

#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

float clip_factor(float norm, float max_norm) {
    if (!std::isfinite(norm)) return std::numeric_limits<float>::quiet_NaN();
    return max_norm > 0 ? std::min(1.0f, max_norm / (norm + 1e-6f)) : 1.0f;
}

Prepared prepare(const NodeView& node) {
    const float max_norm = std::get<ClipFactor>(node.op).max_norm;
    return {[max_norm](const KernelCall& call) {
        const float factor = clip_factor(*call.in[0].as<float>(), max_norm);
        *call.out[0].as<float>() = factor;
        for (std::size_t i = 1; i < call.in.size(); ++i) {
            *call.out[i].as<float>() = factor * *call.in[i].as<float>();
        }
    }};
}

}  // namespace

void register_clip_factor(KernelRegistry& registry) {
    registry.add<ClipFactor>({"clip_factor", takes_all, prepare});
}

}  // namespace octavo::cpu
