#include <cmath>

#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "backends/cpu/transpose.h"
#include "backends/quantise_source.h"

namespace octavo::cpu {
namespace {

Prepared prepare(const NodeView& node) {
    const auto op = std::get<CurrentQuantise>(node.op);
    const QuantisedSource source(kernel_registry(), op.of, op.scaled,
                                 node.in.first(node.in.size() - 1));
    const auto run = [op, source](const KernelCall& call) {
        const TensorRef x = source.values(call.in.first(call.in.size() - 1), call.scratch)[0];
        const float amax = tensor_amax(x);
        const float scale = next_scale(op.rule, amax, std::isfinite(amax) ? 1.0f : NAN);
        quantise_tensor(x, scale, call.out[0]);
        *call.out[1].as<float>() = scale;
        if (op.transpose) transpose(call.out[0], call.out[2]);
    };
    return {run, source.scratch_bytes()};
}

}  // namespace

void register_current_quantise(KernelRegistry& registry) {
    registry.add<CurrentQuantise>({"current_quantise", takes_all, prepare});
}

}  // namespace octavo::cpu
