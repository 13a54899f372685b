#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    return prepare_map<2>(node,
                          GeluGradFunction{power_of_two(std::get<GeluGrad>(node.op).exponent)});
}

}  // namespace

void register_gelu_grad(KernelRegistry& registry) {
    registry.add<GeluGrad>({"gelu_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
