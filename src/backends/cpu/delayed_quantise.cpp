#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "backends/cpu/transpose.h"
#include "backends/quantise_source.h"

namespace octavo::cpu {
namespace {

// One result: `state` is history, counter and scale.
void quantise_delayed(const TensorRef& x, std::span<const TensorRef> state, const ScaleRule& rule,
                      std::span<const TensorRef> out) {
    const TensorRef &history = state[0], &counter = state[1], &y = out[0];
    float scale = *state[2].as<float>(), amax = 0;
    if (just_in_time(history, counter)) {
        amax = tensor_amax(x);
        scale = next_scale(rule, amax, scale);
        quantise_tensor(x, scale, y);
    } else {
        amax = quantise_tensor_amax(x, scale, y);
    }
    note_amax(history, amax, out[1]);
    *out[2].as<float>() = scale;
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<DelayedQuantise>(node.op);
    const std::size_t results = quantised_results(op.of), states = 3 * results;
    const QuantisedSource source(kernel_registry(), op.of, op.scaled,
                                 node.in.first(node.in.size() - states));
    const auto run = [op, source, results, states](const KernelCall& call) {
        const std::vector<TensorRef> values =
            source.values(call.in.first(call.in.size() - states), call.scratch);
        for (std::size_t k = 0; k < results; ++k) {
            const std::size_t history = history_operand(call.in.size(), k);
            quantise_delayed(values[k], call.in.subspan(history, 3), op.rule,
                             call.out.subspan(3 * k, 3));
            if (op.transpose) transpose(call.out[3 * k], call.out[3 * results + k]);
        }
    };
    return {run, source.scratch_bytes()};
}

}  // namespace

void register_delayed_quantise(KernelRegistry& registry) {
    registry.add<DelayedQuantise>({"delayed_quantise", takes_all, prepare});
}

}  // namespace octavo::cpu
