#include "backends/cuda/activations.cuh"
#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView& node) {
    const auto& op = std::get<Add>(node.op);
    return prepare_map<2>(node,
                          AddFunction{power_of_two(op.a_exponent), power_of_two(op.b_exponent)});
}

}  // namespace

void register_add(KernelRegistry& registry) { registry.add<Add>({"add", takes_all, prepare}); }

}  // namespace octavo::cuda
