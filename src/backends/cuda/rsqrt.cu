#include "backends/cuda/elementwise.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

struct RsqrtFunction {
    float factor;

    template <class C>
    __device__ C operator()(C x) const {
        return C(1) / sqrt(x * C(factor));
    }
};

Prepared prepare(const NodeView& node) {
    return prepare_map<1>(node, RsqrtFunction{power_of_two(std::get<Rsqrt>(node.op).exponent)});
}

}  // namespace

void register_rsqrt(KernelRegistry& registry) {
    registry.add<Rsqrt>({"rsqrt", takes_all, prepare});
}

}  // namespace octavo::cuda
