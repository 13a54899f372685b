#include <cmath>

#include "backends/cpu/elementwise.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

struct RsqrtFunction {
    float factor;

    template <class C>
    C operator()(C x) const {
        return C(1) / std::sqrt(x * C(factor));
    }
};

Prepared prepare(const NodeView& node) {
    return prepare_map(node, RsqrtFunction{power_of_two(std::get<Rsqrt>(node.op).exponent)});
}

}  // namespace

void register_rsqrt(KernelRegistry& registry) {
    registry.add<Rsqrt>({"rsqrt", takes_all, prepare});
}

}  // namespace octavo::cpu
