#include "graph/builder.h"

namespace octavo {

Values differentiate(Builder& b, Value loss, const Values& wrt) {
    Graph& g = b.graph();
    check(g.type(loss).shape.elements() == 1, "the loss must have one element, got {}",
          to_string(g.type(loss)));

    // Only values that depend on `wrt` get a gradient.
    const std::int32_t last = g.producer(loss);
    std::vector<bool> needed(g.value_count());
    for (Value v : wrt) needed[v.id] = true;
    for (std::int32_t i = 0; i <= last; ++i) {
        bool any = false;
        for (Value v : g.node(i).in) any = any || needed[v.id];
        if (!any) continue;
        for (Value v : g.node(i).out) needed[v.id] = true;
    }
    check(needed[loss.id], "the loss does not depend on any of the {} values to differentiate by",
          wrt.size());

    const std::string outer_label = b.label();
    const Phase outer_phase = b.phase();
    b.set_phase(Phase::backward);
    Values gradient(g.value_count());
    gradient[loss.id] = b.constant(g.type(loss), 1.0);

    for (std::int32_t i = last; i >= 0; --i) {
        const Node node = g.node(i);  // a copy: emitting reallocates the node list
        Values dout;
        bool flows = false;
        for (Value v : node.out) {
            dout.push_back(gradient[v.id]);
            flows = flows || (dout.back() && needed[v.id]);
        }
        if (!flows || node.in.empty()) continue;

        b.set_label(node.label);
        const Rules& rules = rules_of(node.op);
        check(rules.vjp != nullptr,
              "{} '{}' has no gradient rule.\n  Keep it out of what the loss is computed from.",
              op_name(node.op), node.label);
        const Values din = rules.vjp(b, node.op, node.in, node.out, dout);
        check(din.size() == node.in.size(),
              "{}: its gradient rule gave {} gradients for {} operands", op_name(node.op),
              din.size(), node.in.size());
        for (std::size_t k = 0; k < din.size(); ++k) {
            const Value v = node.in[k];
            if (!din[k] || !needed[v.id]) continue;
            Value& sum = gradient[v.id];
            sum = sum ? b.add(sum, din[k]) : din[k];
        }
    }

    b.set_label(outer_label);
    b.set_phase(outer_phase);
    Values result;
    for (Value v : wrt) result.push_back(gradient[v.id]);
    return result;
}

}  // namespace octavo
