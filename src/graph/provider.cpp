#include "graph/provider.h"

namespace octavo {
namespace {

constexpr std::string_view kCurrent = "current", kDelayed = "delayed", kPredicted = "predicted",
                           kPropagated = "propagated", kRecorded = "recorded";

template <class... Ts>
bool is_one_of(const Op& op) {
    return (std::holds_alternative<Ts>(op) || ...);
}

std::string_view of_state(const std::string& name, const StoredProviders& stored) {
    const auto found = stored.find(name);
    // An amax that was current when the tensor was written is a recorded one for its readers.
    return found == stored.end() || found->second == kCurrent ? kRecorded : found->second;
}

// Of a scale that is a value of the graph, or of the amax that it follows from.
std::string_view of_scale(const Graph& g, Value scale, const StoredProviders& stored) {
    const Node& n = g.node(g.producer(scale));
    if (const auto* load = std::get_if<Load>(&n.op)) return of_state(load->name, stored);
    if (is_one_of<DelayedScale, AdvanceScale, DelayedQuantise>(n.op)) return kDelayed;
    if (is_one_of<PredictAmax>(n.op)) return kPredicted;
    if (is_one_of<ScaleOf>(n.op)) return scale_provider(g, n.in[0], stored);
    if (n.in.empty()) return "";  // a number that was given
    if (is_one_of<ComputeScale, RangeScale>(n.op)) return of_scale(g, n.in[0], stored);
    return kCurrent;
}

// Of w', m', v' and the copy of w'.
std::string_view of_update(const Graph& g, const Node& n, int result,
                           const StoredProviders& stored) {
    const auto& op = std::get<AdamW>(n.op);
    if (result > 2) return of_scale(g, n.in.back(), stored);
    if (result == 0) return op.keep_scale ? kPropagated : kCurrent;
    const bool expanded = g.type(n.out[static_cast<std::size_t>(result)]).scaling == kExpanded;
    return has_bounds(op, n.in.size()) && !expanded ? kPredicted : kCurrent;
}

}  // namespace

std::string_view scale_provider(const Graph& g, Value v, const StoredProviders& stored) {
    const Type& type = g.type(v);
    if (type.scaling == kUnscaled) return is_fp8(type.dtype) ? kPropagated : "";
    const Node& n = g.node(g.producer(v));
    if (const auto* load = std::get_if<Load>(&n.op)) return of_state(load->name, stored);
    if (is_one_of<DelayedQuantise>(n.op)) return kDelayed;
    if (is_one_of<BlockQuantise, CurrentQuantise, RmsNormQuantise>(n.op)) return kCurrent;
    if (is_one_of<Quantise>(n.op)) return of_scale(g, n.in[1], stored);
    if (is_one_of<AdamW>(n.op)) return of_update(g, n, g.result_index(v), stored);
    return n.in.empty() ? "" : scale_provider(g, n.in[0], stored);
}

void note_stores(const Graph& g, StoredProviders& stored) {
    for (const Node& n : g.nodes()) {
        const auto* store = std::get_if<Store>(&n.op);
        if (!store) continue;
        std::string_view provider = scale_provider(g, n.in[0], stored);
        if (is_one_of<ComputeScale>(g.node(g.producer(n.in[0])).op)) {
            provider = of_scale(g, n.in[0], stored);
        }
        if (!provider.empty()) stored[store->name] = provider;
    }
}

}  // namespace octavo
