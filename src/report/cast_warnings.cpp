#include "report/cast_warnings.h"

#include <fmt/core.h>

namespace octavo {
namespace {

struct Loss {
    float CastStats::* share;
    float limit;
    const char* what;
    const char* remedy;
};

constexpr Loss kSaturated{&CastStats::saturated, kSaturatedLimit, "saturate",
                          "Where scales are of earlier steps, recipe.margin leaves room; else, or "
                          "if they go on growing, lower train.lr."};
constexpr Loss kFlushed{&CastStats::flushed, kFlushedLimit, "become 0",
                        "They are too small for their scale: finer scales (recipe moss or "
                        "blockwise) or recipe.gradient = \"e5m2\" keep more of them."};

std::string count(std::size_t n) { return fmt::format("{} tensor{}", n, n == 1 ? "" : "s"); }

// Empty if no tensor is beyond the limit that was not before.
std::string warning(const Loss& loss, const CastStep& step, std::set<std::string>& known) {
    const TensorCast* worst = nullptr;
    std::size_t found = 0;
    for (const TensorCast& t : step.tensors) {
        const float share = t.stats.*loss.share;
        if (!(share > loss.limit) || !known.insert(t.tensor).second) continue;
        ++found;
        if (!worst || share > worst->stats.*loss.share) worst = &t;
    }
    if (!worst) return "";
    const std::string others = found > 1 ? fmt::format(", and more than {:g} % of {} more",
                                                       100 * loss.limit, count(found - 1))
                                         : "";
    return fmt::format("warning: step {}: {:.3g} % of the values of {} {}{}\n  {}", step.step,
                       100 * worst->stats.*loss.share, worst->tensor, loss.what, others,
                       loss.remedy);
}

}  // namespace

std::vector<std::string> CastWarnings::look_at(const CastStep& step) {
    std::vector<std::string> lines;
    for (std::string line :
         {warning(kSaturated, step, saturated_), warning(kFlushed, step, flushed_)}) {
        if (!line.empty()) lines.push_back(std::move(line));
    }
    return lines;
}

std::string CastWarnings::summary() const {
    if (saturated_.empty() && flushed_.empty()) return "";
    return fmt::format(
        "in some measured step more than {:g} % of the values saturated in {}, and more than {:g} "
        "% became 0 in {}; octavo inspect scales shows when",
        100 * kSaturatedLimit, count(saturated_.size()), 100 * kFlushedLimit,
        count(flushed_.size()));
}

}  // namespace octavo
