#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

struct SqrtFunction {
    float factor;

    template <class C>
    __device__ C operator()(C x) const {
        return sqrt(x * C(factor));
    }
};

Prepared prepare(const NodeView& node) {
    return prepare_map<1>(node, SqrtFunction{power_of_two(std::get<Sqrt>(node.op).exponent)});
}

}  // namespace

void register_sqrt(KernelRegistry& registry) { registry.add<Sqrt>({"sqrt", takes_all, prepare}); }

}  // namespace octavo::cuda
