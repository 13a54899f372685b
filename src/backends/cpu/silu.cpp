#include "backends/cpu/elementwise.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

struct SiluFunction {
    float factor;

    template <class C>
    C operator()(C x) const {
        return x * sigmoid(x * C(factor));
    }
};

Prepared prepare(const NodeView& node) {
    return prepare_map(node, SiluFunction{power_of_two(std::get<Silu>(node.op).exponent)});
}

}  // namespace

void register_silu(KernelRegistry& registry) { registry.add<Silu>({"silu", takes_all, prepare}); }

}  // namespace octavo::cpu
