#include "backends/cpu/kernels.h"
#include "backends/propagation.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) {
        const float x = *call.in[0].as<float>(), y = *call.in[1].as<float>();
        const float power = split_power(x * y);
        *call.out[0].as<float>() = y / power;
        *call.out[1].as<float>() = power;
    }};
}

}  // namespace

void register_split_power(KernelRegistry& registry) {
    registry.add<SplitPower>({"split_power", takes_all, prepare});
}

}  // namespace octavo::cpu
