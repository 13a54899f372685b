// Copies a graph node by node into a fresh one; a pass is a loop over this with exceptions.
#pragma once

#include "graph/builder.h"

namespace octavo {

class Rewriter {
  public:
    explicit Rewriter(const Graph& old) : old_(old), map_(old.value_count()), b(fresh_) {}

    const Graph& old() const { return old_; }
    // What a value of the old graph became.
    Value operator()(Value v) const;
    Values operator()(const Values& vs) const;
    bool has(Value v) const { return bool(map_[v.id]); }

    // Emits the node with its operands mapped; result types are inferred afresh.
    const Values& keep(const Node& n) { return keep(n, n.op); }
    const Values& keep(const Node& n, const Op& op) { return keep(n, op, (*this)(n.in)); }
    const Values& keep(const Node& n, const Op& op, Values in);
    // Says that the old value `v` is `with` from now on.
    void replace(Value v, Value with) { map_[v.id] = with; }
    // Emit under the label and phase of `n`.
    void stand_at(const Node& n);

    Graph finish();  // maps the outputs

  private:
    const Graph& old_;
    Graph fresh_;
    Values map_;
    Values kept_;

  public:
    Builder b;
};

}  // namespace octavo
