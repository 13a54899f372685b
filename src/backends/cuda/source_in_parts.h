// Fused quantisers of what no kernel of theirs computes on the way.
#pragma once

#include <algorithm>
#include <vector>

#include "backends/cuda/kernels.h"
#include "graph/rules.h"

namespace octavo::cuda {

// The results of the source op in scratch, and each quantised as a value: quantisers[k] takes
// result k, and gives as many results as every other.
inline Prepared prepare_in_parts(const NodeView& node, const Op& source,
                                 const std::vector<Op>& quantisers) {
    const Types values = rules_of(source).type(source, Operands(op_name(source), node.in));
    ScratchCounter scratch;
    std::vector<std::int64_t> at;
    for (const Type& t : values) at.push_back(scratch.reserve(total_bytes(t)));
    const Prepared first = prepare_op(kernel_registry(), source, node.in);
    std::int64_t most = first.scratch_bytes;
    std::vector<Prepared> rest;
    for (std::size_t k = 0; k < values.size(); ++k) {
        rest.push_back(
            prepare_op(kernel_registry(), quantisers[k], std::span(values).subspan(k, 1)));
        most = std::max(most, rest.back().scratch_bytes);
    }
    const std::int64_t scratch_at = scratch.reserve(most);
    const auto run = [=](const KernelCall& call) {
        std::vector<TensorRef> results;
        for (std::size_t k = 0; k < values.size(); ++k) {
            results.push_back(tensor_at(values[k], call.scratch + at[k]));
        }
        first.run({call.in, results, call.scratch + scratch_at});
        const std::size_t copies = call.out.size() / results.size();
        for (std::size_t k = 0; k < results.size(); ++k) {
            rest[k].run({std::span(results).subspan(k, 1), call.out.subspan(k * copies, copies),
                         call.scratch + scratch_at});
        }
    };
    return {run, scratch.bytes()};
}

}  // namespace octavo::cuda
