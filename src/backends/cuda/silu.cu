#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    return prepare_map<1>(node, SiluFunction{power_of_two(std::get<Silu>(node.op).exponent)});
}

}  // namespace

void register_silu(KernelRegistry& registry) { registry.add<Silu>({"silu", takes_all, prepare}); }

}  // namespace octavo::cuda
