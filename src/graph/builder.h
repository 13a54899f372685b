// Appends nodes to a Graph: infers result types by the ops' rules and names nodes after the scopes
// that are open, so that models read like their equations.
#pragma once

#include <string>
#include <utility>

#include "graph/graph.h"
#include "graph/rules.h"

namespace octavo {

class Builder {
  public:
    explicit Builder(Graph& graph) : graph_(graph) {}

    Graph& graph() { return graph_; }
    const Type& type(Value v) const { return graph_.type(v); }
    const Shape& shape(Value v) const { return graph_.type(v).shape; }
    Dtype dtype(Value v) const { return graph_.type(v).dtype; }

    // All results of an op; `one` when it has exactly one.
    Values emit(Op op, Values in);
    Value one(Op op, Values in);

    Value input(std::string name, Type type);
    Value load(std::string name, Type type);
    void store(std::string name, Value v);
    void output(std::string name, Value v) { graph_.add_output(std::move(name), v); }
    Value constant(Type type, double value);

    Value add(Value a, Value b);
    Value mul(Value a, Value b);
    Value cast(Value x, Dtype to);
    Value reshape(Value x, Shape s);
    // y = x w^T for w (N, K): a Linear layer as PyTorch stores it.
    Value linear(Value x, Value w);
    // y = x w for w (K, N): GPT-2's Conv1D.
    Value conv1d(Value x, Value w);

    // Names the nodes emitted while it lives: "layers.3" / "mlp" -> "layers.3.mlp".
    class Scope {
      public:
        Scope(Builder& b, std::string_view name);
        ~Scope() { builder_.label_ = std::move(outer_); }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

      private:
        Builder& builder_;
        std::string outer_;
    };
    Scope scope(std::string_view name) { return Scope(*this, name); }

    const std::string& label() const { return label_; }
    void set_label(std::string label) { label_ = std::move(label); }
    Phase phase() const { return phase_; }
    void set_phase(Phase phase) { phase_ = phase; }

  private:
    Graph& graph_;
    std::string label_;
    Phase phase_ = Phase::forward;
};

// Reverse-mode differentiation: appends the backward nodes of the scalar `loss` and returns its
// gradient with respect to each of `wrt` ("no value" where the loss does not depend on it).
// An op on the way without a gradient rule is an Error that names it.
Values differentiate(Builder&, Value loss, const Values& wrt);

}  // namespace octavo
