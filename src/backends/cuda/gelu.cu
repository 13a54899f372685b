#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    return prepare_map<1>(node, GeluFunction{power_of_two(std::get<Gelu>(node.op).exponent)});
}

}  // namespace

void register_gelu(KernelRegistry& registry) { registry.add<Gelu>({"gelu", takes_all, prepare}); }

}  // namespace octavo::cuda
