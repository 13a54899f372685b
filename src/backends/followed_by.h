// Fused ops whose second part is a pass of its own: a kernel, then another op on its first result.
#pragma once

#include <algorithm>
#include <vector>

#include "graph/rules.h"
#include "runtime/kernel.h"

namespace octavo {

// `first` takes the node's first `operands` and gives its first `results`; `second` takes the first
// result and the other operands, and gives the other results.
inline Prepared followed_by(const KernelRegistry& registry, const NodeView& node,
                            const Prepared& first, std::size_t operands, std::size_t results,
                            const Op& second) {
    std::vector<Type> in{node.out[0]};
    in.insert(in.end(), node.in.begin() + static_cast<std::ptrdiff_t>(operands), node.in.end());
    const Prepared then = prepare_op(registry, second, in);
    const auto run = [=](const KernelCall& call) {
        first.run({call.in.first(operands), call.out.first(results), call.scratch});
        std::vector<TensorRef> next{call.out[0]};
        for (const TensorRef& t : call.in.subspan(operands)) next.push_back(t);
        then.run({next, call.out.subspan(results), call.scratch});
    };
    return {run, std::max(first.scratch_bytes, then.scratch_bytes)};
}

}  // namespace octavo
