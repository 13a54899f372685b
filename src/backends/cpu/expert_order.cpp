#include <vector>

#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

// By one thread: a few instructions for each choice.
void expert_order(const KernelCall& call, const ExpertOrder& op) {
    const std::int64_t choices = call.in[0].type.shape.elements();
    const std::int32_t* ids = call.in[0].as<std::int32_t>();
    std::int32_t* row_of = call.out[0].as<std::int32_t>();
    std::int32_t* choice_of = call.out[1].as<std::int32_t>();
    std::int32_t* offsets = call.out[2].as<std::int32_t>();
    std::int32_t* counts = call.out[3].as<std::int32_t>();
    std::fill_n(counts, op.experts, 0);
    for (std::int64_t c = 0; c < choices; ++c) ++counts[ids[c]];
    offsets[0] = 0;
    for (std::int64_t e = 0; e < op.experts; ++e) {
        const std::int64_t rows = (counts[e] + op.alignment - 1) / op.alignment * op.alignment;
        offsets[e + 1] = offsets[e] + static_cast<std::int32_t>(rows);
    }
    std::fill_n(choice_of, call.out[1].type.shape.elements(), -1);
    std::vector<std::int32_t> next(offsets, offsets + op.experts);
    for (std::int64_t c = 0; c < choices; ++c) {
        row_of[c] = next[static_cast<std::size_t>(ids[c])]++;
        choice_of[row_of[c]] = static_cast<std::int32_t>(c);
    }
}

Prepared prepare(const NodeView& node) {
    return {
        [op = std::get<ExpertOrder>(node.op)](const KernelCall& call) { expert_order(call, op); }};
}

}  // namespace

void register_expert_order(KernelRegistry& registry) {
    registry.add<ExpertOrder>({"expert_order", takes_all, prepare});
}

}  // namespace octavo::cpu
