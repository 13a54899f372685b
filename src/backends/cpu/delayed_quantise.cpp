#include "ops/delayed_quantise.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "backends/cpu/transpose.h"
#include "graph/rules.h"

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

// The source's results wait in scratch for their quantisers.
struct Source {
    Prepared kernel;  // none for the value itself
    Types types;
    std::vector<std::int64_t> offsets;
    std::int64_t scratch = 0, scratch_bytes = 0;
};

Source prepare_source(const NodeView& node, const DelayedQuantise& op) {
    Source s;
    const std::optional<Op> source = source_op(op.of);
    if (!source) return s;
    const auto operands = node.in.first(node.in.size() - 3 * quantised_results(op.of));
    s.types = rules_of(*source).type(*source, Operands(op_name(*source), operands));
    for (const Type& t : s.types) {
        s.offsets.push_back(s.scratch);
        s.scratch += total_bytes(t);
    }
    s.kernel = prepare_op(kernel_registry(), *source, operands);
    s.scratch_bytes = s.scratch + s.kernel.scratch_bytes;
    return s;
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<DelayedQuantise>(node.op);
    const Source source = prepare_source(node, op);
    const std::size_t results = quantised_results(op.of);
    const auto run = [op, source, results](const KernelCall& call) {
        std::vector<TensorRef> values;
        for (std::size_t k = 0; k < source.types.size(); ++k) {
            values.push_back(tensor_at(source.types[k], call.scratch + source.offsets[k]));
        }
        if (source.kernel.run) {
            source.kernel.run({call.in.first(call.in.size() - 3 * results), values,
                               call.scratch + source.scratch});
        } else {
            values.push_back(call.in[0]);
        }
        for (std::size_t k = 0; k < results; ++k) {
            const std::size_t history = history_operand(call.in.size(), k);
            quantise_delayed(values[k], call.in.subspan(history, 3), op.rule,
                             call.out.subspan(3 * k, 3));
            if (op.transpose) transpose(call.out[3 * k], call.out[3 * results + k]);
        }
    };
    return {run, source.scratch_bytes};
}

}  // namespace

void register_delayed_quantise(KernelRegistry& registry) {
    registry.add<DelayedQuantise>({"delayed_quantise", takes_all, prepare});
}

}  // namespace octavo::cpu
