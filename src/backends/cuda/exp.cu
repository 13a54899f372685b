#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

struct ExpFunction {
    float factor;

    template <class C>
    __device__ C operator()(C x) const {
        return exp(x * C(factor));
    }
};

Prepared prepare(const NodeView& node) {
    return prepare_map<1>(node, ExpFunction{power_of_two(std::get<Exp>(node.op).exponent)});
}

}  // namespace

void register_exp(KernelRegistry& registry) { registry.add<Exp>({"exp", takes_all, prepare}); }

}  // namespace octavo::cuda
