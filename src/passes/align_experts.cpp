#include "passes/align_experts.h"

#include <algorithm>
#include <numeric>

#include "passes/rewriter.h"

namespace octavo {
namespace {

// What an op has its experts aligned to, if it knows any.
std::int64_t* alignment_of(Op& op) {
    if (auto* order = std::get_if<ExpertOrder>(&op)) return &order->alignment;
    auto* matmul = std::get_if<Matmul>(&op);
    return matmul && matmul->groups > 0 ? &matmul->alignment : nullptr;
}

}  // namespace

Graph align_experts(const Graph& g, std::int64_t rows) {
    const bool any = std::ranges::any_of(
        g.nodes(), [](const Node& n) { return std::holds_alternative<ExpertOrder>(n.op); });
    if (!any || rows == 1) return g;
    Rewriter rewrite(g);
    for (const Node& n : g.nodes()) {
        Op op = n.op;
        if (std::int64_t* alignment = alignment_of(op)) *alignment = std::lcm(*alignment, rows);
        rewrite.keep(n, op);
    }
    return rewrite.finish();
}

}  // namespace octavo
