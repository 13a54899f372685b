#include <map>
#include <set>

#include "graph/graph.h"
#include "graph/rules.h"

namespace octavo {
namespace {

void verify_types(const Graph& g) {
    std::int32_t defined = 0;
    for (const Node& n : g.nodes()) {
        std::vector<Type> operands;
        for (Value v : n.in) {
            check(bool(v) && v.id < defined, "{} '{}' reads value %{} before it is defined",
                  op_name(n.op), n.label, v.id);
            operands.push_back(g.type(v));
        }
        const Types results = rules_of(n.op).type(n.op, Operands(op_name(n.op), operands));
        check(results.size() == n.out.size(), "{} '{}' has {} results, its rule gives {}",
              op_name(n.op), n.label, n.out.size(), results.size());
        for (std::size_t i = 0; i < results.size(); ++i) {
            check(results[i] == g.type(n.out[i]), "{} '{}': result {} is {}, its rule gives {}",
                  op_name(n.op), n.label, i, to_string(g.type(n.out[i])), to_string(results[i]));
        }
        defined += static_cast<std::int32_t>(n.out.size());
    }
}

// The caller writes an Input by its name.
void verify_inputs(const Graph& g) {
    std::set<std::string> names;
    for (const Node& n : g.nodes()) {
        const auto* input = std::get_if<Input>(&n.op);
        check(!input || names.insert(input->name).second, "two inputs are named '{}'",
              input ? input->name : "");
    }
}

// The Load whose memory `v` is, perhaps under another type.
const Load* loaded(const Graph& g, Value v) {
    const Node* n = &g.node(g.producer(v));
    while (rules_of(n->op).view) n = &g.node(g.producer(n->in[0]));
    return std::get_if<Load>(&n->op);
}

// A Load is a view of State, not a copy: nothing may read it once the tensor was overwritten.
void verify_state(const Graph& g) {
    std::map<std::string, Type> types;
    std::map<std::string, bool> stored;
    const auto same_type = [&](const std::string& name, const Type& type) {
        const auto [it, fresh] = types.try_emplace(name, type);
        check(fresh || it->second == type, "state '{}' is used as {} and as {}", name,
              to_string(it->second), to_string(type));
    };
    for (const Node& n : g.nodes()) {
        for (Value v : n.in) {
            const Load* load = loaded(g, v);
            check(!load || !stored[load->name], "{} '{}' reads state '{}' after it was stored",
                  op_name(n.op), n.label, load ? load->name : "");
        }
        if (const auto* load = std::get_if<Load>(&n.op)) same_type(load->name, load->type);
        if (const auto* store = std::get_if<Store>(&n.op)) {
            check(!stored[store->name], "state '{}' is stored twice", store->name);
            same_type(store->name, g.type(n.in[0]));
            stored[store->name] = true;
        }
    }
    for (const Output& o : g.outputs()) {
        const Load* load = loaded(g, o.value);
        check(!load || !stored[load->name], "output '{}' reads state '{}' after it was stored",
              o.name, load ? load->name : "");
    }
}

}  // namespace

void verify(const Graph& g) {
    verify_types(g);
    verify_inputs(g);
    verify_state(g);
}

}  // namespace octavo
