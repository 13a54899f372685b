// What tests of recipes ask about the graphs that they made.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "graph/builder.h"

namespace octavo::test {

inline bool is_head(const Node& n) { return n.label.ends_with("lm_head"); }

// The products of the Linear layers: of a layer, not of the head.
inline std::vector<const Node*> products(const Graph& g, MatmulKind kind) {
    std::vector<const Node*> found;
    for (const Node& n : g.nodes()) {
        const auto* m = std::get_if<Matmul>(&n.op);
        if (m && m->kind == kind && !is_head(n)) found.push_back(&n);
    }
    return found;
}

template <class T>
std::vector<const Node*> nodes_of(const Graph& g) {
    std::vector<const Node*> found;
    for (const Node& n : g.nodes()) {
        if (std::holds_alternative<T>(n.op)) found.push_back(&n);
    }
    return found;
}

inline std::set<std::string> names_of(const Graph& g, bool stores, std::string_view prefix) {
    std::set<std::string> names;
    for (const Node& n : g.nodes()) {
        const auto* load = std::get_if<Load>(&n.op);
        const auto* store = std::get_if<Store>(&n.op);
        const std::string name = stores ? (store ? store->name : "") : (load ? load->name : "");
        if (!name.empty() && name.starts_with(prefix)) names.insert(name);
    }
    return names;
}

}  // namespace octavo::test
