#include <cmath>

#include "backends/cpu/elementwise.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

struct SqrtFunction {
    float factor;

    template <class C>
    C operator()(C x) const {
        return std::sqrt(x * C(factor));
    }
};

Prepared prepare(const NodeView& node) {
    return prepare_map(node, SqrtFunction{power_of_two(std::get<Sqrt>(node.op).exponent)});
}

}  // namespace

void register_sqrt(KernelRegistry& registry) { registry.add<Sqrt>({"sqrt", takes_all, prepare}); }

}  // namespace octavo::cpu
