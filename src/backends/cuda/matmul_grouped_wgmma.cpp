// Products of groups on the tensor cores (grouped_gemm.h).
#include "backends/cuda/device.h"
#include "backends/cuda/grouped_gemm.h"
#include "backends/cuda/matmul_grouped.h"
#include "backends/matmul_grouped.h"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

constexpr std::int64_t kRows = 128;  // that experts are aligned to

GroupedProduct describe(const NodeView& node) {
    const auto& op = std::get<Matmul>(node.op);
    const Type &a = node.in[0], &b = node.in[1];
    const Shape& out = node.out[0].shape;
    const auto scales = [](const Type& t) {
        const Granularity g = t.scaling.granularity;
        return g == Granularity::none ? Granularity::tensor : g;
    };
    return {.form = op.group_k ? GroupedProduct::Form::by_k : GroupedProduct::Form::by_rows,
            .experts = op.groups,
            .rows = a.shape[op.group_k && !op.trans_a ? 1 : 0],
            .m = op.group_k ? out[1] : 0,
            .n = out.last(),
            .k = op.group_k ? 0 : a.shape[1],
            .a_type = a.dtype,
            .b_type = b.dtype,
            .a_transposed = op.trans_a,
            .b_transposed = !op.trans_b,
            .a_scales = scales(a),
            .b_scales = scales(b),
            .fast_accumulation = op.kind == MatmulKind::fprop && a.scaling == kPerTensor,
            .out_type = op.out,
            .factor = power_of_two(op.exponent)};
}

}  // namespace

Refusal reject_grouped_wgmma(const NodeView& node) {
    if (const Refusal none = reject_ungrouped(node)) return none;
    const std::int64_t alignment = std::get<Matmul>(node.op).alignment;
    if (alignment % kRows != 0) {
        return fmt::format("experts are aligned to {} rows, not {}", alignment, kRows);
    }
    return why_not(describe(node));
}

Prepared prepare_grouped_wgmma(const NodeView& node) {
    const GroupedProduct product = describe(node);
    const bool accumulate = std::get<Matmul>(node.op).accumulate;
    return {[=](const KernelCall& call) {
        const TensorRef &a = call.in[0], &b = call.in[1];
        grouped_gemm(product,
                     {.a = a.data,
                      .b = b.data,
                      .offsets = call.in[2].as<std::int32_t>(),
                      .a_scale = a.scales(),
                      .b_scale = b.scales(),
                      .acc = accumulate ? call.in[3].data : nullptr,
                      .out = call.out[0].data},
                     stream());
    }};
}

}  // namespace octavo::cuda
