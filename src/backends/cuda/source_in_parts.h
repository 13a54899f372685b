// Fused quantisers of what no kernel of theirs computes on the way.
#pragma once

#include <algorithm>
#include <vector>

#include "backends/cuda/kernels.h"
#include "backends/quantise_source.h"

namespace octavo::cuda {

// The results of the source in scratch, and each quantised as a value: quantisers[k] takes result
// k, and gives as many results as every other.
inline Prepared prepare_in_parts(const NodeView& node, QuantiseSource of,
                                 const std::vector<Op>& quantisers, int exponent = 0) {
    const QuantisedSource source(kernel_registry(), of, {}, node.in, exponent);
    ScratchCounter scratch;
    const std::int64_t source_at = scratch.reserve(source.scratch_bytes());
    std::int64_t most = 0;
    std::vector<Prepared> rest;
    for (std::size_t k = 0; k < quantisers.size(); ++k) {
        const auto value = std::span(source.types()).subspan(k, 1);
        rest.push_back(prepare_op(kernel_registry(), quantisers[k], value));
        most = std::max(most, rest.back().scratch_bytes);
    }
    const std::int64_t rest_at = scratch.reserve(most);
    const auto run = [=](const KernelCall& call) {
        const std::vector<TensorRef> values = source.values(call.in, call.scratch + source_at);
        const std::size_t copies = call.out.size() / values.size();
        for (std::size_t k = 0; k < values.size(); ++k) {
            rest[k].run({std::span(values).subspan(k, 1), call.out.subspan(k * copies, copies),
                         call.scratch + rest_at});
        }
    };
    return {run, scratch.bytes()};
}

}  // namespace octavo::cuda
