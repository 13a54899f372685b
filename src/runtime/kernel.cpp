#include "runtime/kernel.h"

#include "graph/rules.h"

namespace octavo {

Prepared prepare_op(const KernelRegistry& registry, const Op& op, std::span<const Type> in) {
    const Types out = rules_of(op).type(op, Operands(op_name(op), in));
    const NodeView node{op, in, out, {}};
    std::string refusals;
    for (const Kernel& kernel : registry.kernels(op)) {
        const Refusal why = kernel.reject(node);
        if (!why) return kernel.prepare(node);
        refusals += fmt::format("{}{}: {}", refusals.empty() ? "" : "; ", kernel.name, *why);
    }
    fail("{}: no kernel takes it as a step of another\n  {}", op_name(op), refusals);
}

Prepared prepare_matmul(const KernelRegistry& registry, const Matmul& matmul, const Type& a,
                        const Type& b) {
    std::vector<Type> in{a, b};
    if (matmul.accumulate) {
        Matmul product = matmul;
        product.accumulate = false;
        in.push_back(rules_of(Op(product)).type(product, Operands("matmul", in))[0]);
    }
    return prepare_op(registry, matmul, in);
}

}  // namespace octavo
