#include "passes/schedule.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "passes/rewriter.h"

namespace octavo {
namespace {

bool is_sink(const Op& op) {
    return std::holds_alternative<Store>(op) || std::holds_alternative<MeasureCast>(op);
}

// Stores, measurements, and nodes that lead to nothing but them from at most one value besides
// sources and scalars, which hold no memory. Only they move: a backward pass as a whole leads to
// nothing but Stores too, and its order is good.
std::vector<bool> find_tails(const Graph& g) {
    std::vector<bool> read_by_others(g.value_count());
    for (const Output& o : g.outputs()) read_by_others[o.value.id] = true;
    std::vector<bool> tail(g.nodes().size());
    for (auto i = std::ssize(g.nodes()) - 1; i >= 0; --i) {
        const Node& n = g.nodes()[i];
        const auto values = std::count_if(n.in.begin(), n.in.end(), [&](Value v) {
            return !g.node(g.producer(v)).in.empty() && g.type(v).shape.elements() != 1;
        });
        tail[i] = is_sink(n.op) ||
                  (values <= 1 && std::none_of(n.out.begin(), n.out.end(),
                                               [&](Value v) { return read_by_others[v.id]; }));
        if (tail[i]) continue;
        for (Value v : n.in) read_by_others[v.id] = true;
    }
    return tail;
}

// By node: those that read a State tensor before it is this Store's turn, perhaps through views.
std::vector<std::vector<std::int32_t>> find_readers_of_old_state(const Graph& g) {
    std::map<std::string_view, std::vector<std::int32_t>> reading;
    std::vector<const Load*> memory(g.value_count());  // whose memory a value is
    std::vector<std::vector<std::int32_t>> found(g.nodes().size());
    for (std::int32_t i = 0; i < std::ssize(g.nodes()); ++i) {
        const Node& n = g.node(i);
        if (const auto* store = std::get_if<Store>(&n.op)) found[i] = reading[store->name];
        for (Value v : n.in) {
            if (memory[v.id]) reading[memory[v.id]->name].push_back(i);
        }
        if (const auto* load = std::get_if<Load>(&n.op)) memory[n.out[0].id] = load;
        if (rules_of(n.op).view) memory[n.out[0].id] = memory[n.in[0].id];
    }
    return found;
}

// What needs nothing but sources could run first of all, where it would only hold memory: it runs
// when its first reader does. A Store that may run at any time asks for nothing.
void wait_for_readers(const Graph& g, const std::vector<bool>& tail,
                      std::vector<std::int32_t>& after) {
    constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();
    std::vector<std::int32_t> wanted(g.value_count(), kNever);
    for (auto i = std::ssize(g.nodes()) - 1; i >= 0; --i) {
        const Node& n = g.nodes()[i];
        std::int32_t first = kNever;
        for (Value v : n.out) first = std::min(first, wanted[v.id]);
        if (tail[i] && !n.in.empty() && after[i] < 0 && first != kNever) after[i] = first;
        if (after[i] < 0) continue;
        for (Value v : n.in) wanted[v.id] = std::min(wanted[v.id], after[i]);
    }
}

}  // namespace

Graph store_early(const Graph& g) {
    const std::vector<bool> tail = find_tails(g);
    const auto old_state = find_readers_of_old_state(g);
    // The node after which each may run. Sources cost nothing and must not hold anybody up.
    std::vector<std::int32_t> after(g.nodes().size(), -1);
    for (std::int32_t i = 0; i < std::ssize(g.nodes()); ++i) {
        const Node& n = g.node(i);
        if (!n.in.empty() && !tail[i]) {
            after[i] = i;
            continue;
        }
        for (Value v : n.in) after[i] = std::max(after[i], after[g.producer(v)]);
        for (const std::int32_t reader : old_state[i]) after[i] = std::max(after[i], after[reader]);
    }
    wait_for_readers(g, tail, after);
    for (std::int32_t i = 0; i < std::ssize(g.nodes()); ++i) {
        for (Value v : g.node(i).in) after[i] = std::max(after[i], after[g.producer(v)]);
        for (const std::int32_t reader : old_state[i]) after[i] = std::max(after[i], after[reader]);
    }
    std::vector<std::int32_t> order(g.nodes().size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int32_t a, std::int32_t b) { return after[a] < after[b]; });
    Rewriter rewrite(g);
    for (const std::int32_t i : order) rewrite.keep(g.node(i));
    return rewrite.finish();
}

}  // namespace octavo
