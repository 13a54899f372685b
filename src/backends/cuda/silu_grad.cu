#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    return prepare_map<2>(node,
                          SiluGradFunction{power_of_two(std::get<SiluGrad>(node.op).exponent)});
}

}  // namespace

void register_silu_grad(KernelRegistry& registry) {
    registry.add<SiluGrad>({"silu_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
