#include <cmath>

#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView& node) {
    const float bound = std::get<PredictAmax>(node.op).bound;
    return {[bound](const KernelCall& call) {
        const float p = *call.in[0].as<float>();
        const bool applied = std::isfinite(*call.in[2].as<float>());
        const float step = bound * call.in[1].as<float>()[0];
        *call.out[0].as<float>() = applied ? p + step : p;
    }};
}

}  // namespace

void register_predict_amax(KernelRegistry& registry) {
    registry.add<PredictAmax>({"predict_amax", takes_all, prepare});
}

}  // namespace octavo::cpu
