#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    return prepare_map<2>(node, SwiGluFunction{power_of_two(std::get<SwiGlu>(node.op).exponent)});
}

}  // namespace

void register_swiglu(KernelRegistry& registry) {
    registry.add<SwiGlu>({"swiglu", takes_all, prepare});
}

}  // namespace octavo::cuda
