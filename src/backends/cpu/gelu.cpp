#include "backends/cpu/elementwise.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

// (1 + tanh(u)) / 2 = sigmoid(2u): cheaper than tanh, and without its cancellation for x << 0.
struct GeluFunction {
    float factor;

    template <class C>
    C operator()(C x) const {
        constexpr C k = C(2 * 0.7978845608028654), k3 = k * C(0.044715);  // 2 sqrt(2 / pi)
        const C v = x * C(factor);
        return x * sigmoid(v * (k + k3 * v * v));
    }
};

Prepared prepare(const NodeView& node) {
    return prepare_map(node, GeluFunction{power_of_two(std::get<Gelu>(node.op).exponent)});
}

}  // namespace

void register_gelu(KernelRegistry& registry) { registry.add<Gelu>({"gelu", takes_all, prepare}); }

}  // namespace octavo::cpu
