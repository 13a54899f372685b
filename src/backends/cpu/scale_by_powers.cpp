#include "backends/cpu/kernels.h"
#include "base/power.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView& node) {
    return {[exponents = std::get<ScaleByPowers>(node.op).exponents](const KernelCall& call) {
        const float x = *call.in[0].as<float>();
        for (std::size_t i = 0; i < exponents.size(); ++i) {
            *call.out[i].as<float>() = x * power_of_two(exponents[i]);
        }
    }};
}

}  // namespace

void register_scale_by_powers(KernelRegistry& registry) {
    registry.add<ScaleByPowers>({"scale_by_powers", takes_all, prepare});
}

}  // namespace octavo::cpu
