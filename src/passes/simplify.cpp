#include "passes/simplify.h"

#include <unordered_map>

#include "passes/rewriter.h"

namespace octavo {
namespace {

bool is_source_or_sink(const Op& op) {
    return std::holds_alternative<Store>(op) || std::holds_alternative<Input>(op);
}

// Candidates for merging share a bucket; equality decides.
std::size_t bucket(const Node& n, const Values& in) {
    std::size_t h = n.op.index() * 31 + static_cast<std::size_t>(n.phase);
    for (Value v : in) h = h * 1000003 + static_cast<std::size_t>(v.id);
    if (const auto* load = std::get_if<Load>(&n.op)) h ^= std::hash<std::string>{}(load->name);
    return h;
}

}  // namespace

Graph remove_dead(const Graph& g) {
    std::vector<bool> wanted(g.value_count());
    for (const Output& o : g.outputs()) wanted[o.value.id] = true;
    std::vector<bool> alive(g.nodes().size());
    for (auto i = std::ssize(g.nodes()) - 1; i >= 0; --i) {
        const Node& n = g.nodes()[i];
        alive[i] = is_source_or_sink(n.op);
        for (Value v : n.out) alive[i] = alive[i] || wanted[v.id];
        if (!alive[i]) continue;
        for (Value v : n.in) wanted[v.id] = true;
    }
    Rewriter rewrite(g);
    for (std::size_t i = 0; i < g.nodes().size(); ++i) {
        if (alive[i]) rewrite.keep(g.nodes()[i]);
    }
    return rewrite.finish();
}

Graph merge_equal(const Graph& g) {
    Rewriter rewrite(g);
    std::unordered_multimap<std::size_t, std::int32_t> seen;  // bucket -> node of the new graph
    for (const Node& n : g.nodes()) {
        const Values in = rewrite(n.in);
        const std::size_t key = bucket(n, in);
        const Node* twin = nullptr;
        if (!is_source_or_sink(n.op)) {
            const auto [first, last] = seen.equal_range(key);
            for (auto it = first; it != last && !twin; ++it) {
                const Node& other = rewrite.b.graph().node(it->second);
                if (other.op == n.op && other.in == in && other.phase == n.phase) twin = &other;
            }
        }
        if (twin) {
            for (std::size_t i = 0; i < n.out.size(); ++i) rewrite.replace(n.out[i], twin->out[i]);
        } else {
            rewrite.keep(n);
            seen.emplace(key, static_cast<std::int32_t>(rewrite.b.graph().nodes().size()) - 1);
        }
    }
    return rewrite.finish();
}

Graph decompose_all(const Graph& g) {
    Rewriter rewrite(g);
    bool changed = false;
    for (const Node& n : g.nodes()) {
        const Rules& rules = rules_of(n.op);
        rewrite.stand_at(n);
        const Values parts =
            rules.decompose ? rules.decompose(rewrite.b, n.op, rewrite(n.in)) : Values{};
        if (parts.empty()) {
            rewrite.keep(n);
            continue;
        }
        changed = true;
        check(parts.size() == n.out.size(), "{}: its decomposition gives {} results, not {}",
              op_name(n.op), parts.size(), n.out.size());
        for (std::size_t i = 0; i < parts.size(); ++i) rewrite.replace(n.out[i], parts[i]);
    }
    Graph result = rewrite.finish();
    return changed ? decompose_all(result) : result;
}

}  // namespace octavo
