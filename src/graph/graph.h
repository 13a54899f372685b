// The step of a model as data: nodes in topological order over values in SSA form.
//
// A Graph has value semantics; a pass is a function Graph -> Graph. Ids are indices, so everything
// a pass wants to know about values fits in a vector beside the graph.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/op.h"
#include "graph/type.h"

namespace octavo {

struct Value {
    std::int32_t id = -1;

    explicit operator bool() const { return id >= 0; }  // false: no value, e.g. no gradient flows
    bool operator==(const Value&) const = default;
};
using Values = std::vector<Value>;

// Which part of the step a node belongs to; recompute copies forward nodes into the backward part.
enum class Phase : std::uint8_t { forward, backward, update };

struct Node {
    Op op;
    Values in, out;
    std::string label;  // where in the model: "layers.3.mlp.down_proj"
    Phase phase = Phase::forward;
};

// A value that outlives the run and can be read by name.
struct Output {
    std::string name;
    Value value;
};

class Graph {
  public:
    std::span<const Node> nodes() const { return nodes_; }
    const Node& node(std::int32_t i) const { return nodes_[i]; }
    std::span<const Output> outputs() const { return outputs_; }

    std::int32_t value_count() const { return static_cast<std::int32_t>(values_.size()); }
    const Type& type(Value v) const { return values_[v.id].type; }
    // The node that defines `v`, and which of its results `v` is.
    std::int32_t producer(Value v) const { return values_[v.id].producer; }
    int result_index(Value v) const { return values_[v.id].result; }
    // "%17 (matmul of layers.3.mlp.down_proj)", or the name of an input or State tensor.
    std::string value_name(Value v) const;

    // Appends a node with results of the given types. The caller has checked them (see Builder).
    const Values& append(Op op, Values in, std::span<const Type> results, std::string label,
                         Phase phase);
    void add_output(std::string name, Value v) { outputs_.push_back({std::move(name), v}); }

  private:
    struct Def {
        Type type;
        std::int32_t producer;
        int result;
    };
    std::vector<Node> nodes_;
    std::vector<Def> values_;
    std::vector<Output> outputs_;
};

// One node per line: `%12:bf16[8, 64] = matmul(%3, %11) trans_b  # layers.0.q_proj`.
std::string to_text(const Graph&);
std::string to_graphviz(const Graph&);
// Attributes that differ from "no attribute", as printed after the operands.
std::string attributes(const Op&);

// Throws Error if the graph breaks a rule: operands before use, types as the op's rule gives them,
// one type per State name, no read of a State tensor's old value after its Store.
void verify(const Graph&);

}  // namespace octavo
