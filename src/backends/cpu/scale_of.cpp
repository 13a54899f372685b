#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) { *call.out[0].as<float>() = *call.in[0].scales(); }};
}

}  // namespace

void register_scale_of(KernelRegistry& registry) {
    registry.add<ScaleOf>({"scale_of", takes_all, prepare});
}

}  // namespace octavo::cpu
