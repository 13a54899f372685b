// Fusions: patterns of nodes replaced by one op that computes the same in fewer passes over memory.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "passes/rewriter.h"
#include "passes/target.h"

namespace octavo {

// What a rule looks at: the old graph, and who reads each value.
class Matcher {
  public:
    explicit Matcher(const Graph& g, const Target& target = {});

    const Graph& graph() const { return g_; }
    const Target& target() const { return target_; }
    const Node& producer(Value v) const { return g_.node(g_.producer(v)); }
    // Indices of the nodes that read `v`; outputs of the graph are not nodes.
    std::span<const std::int32_t> readers(Value v) const { return readers_[v.id]; }
    bool is_output(Value v) const { return is_output_[v.id]; }
    // One reader, and no output.
    bool used_once(Value v) const { return readers(v).size() == 1 && !is_output(v); }

    template <class T>
    const Node* producer_as(Value v) const {
        const Node& n = producer(v);
        return std::holds_alternative<T>(n.op) ? &n : nullptr;
    }
    // The only reader of `v` if it is a T.
    template <class T>
    const Node* only_reader_as(Value v) const {
        if (!used_once(v)) return nullptr;
        const Node& n = g_.node(readers(v)[0]);
        return std::holds_alternative<T>(n.op) ? &n : nullptr;
    }

  private:
    const Graph& g_;
    Target target_;
    std::vector<std::vector<std::int32_t>> readers_;
    std::vector<bool> is_output_;
};

// Tries to replace the pattern that ends in `n`. On success it has emitted the fused op and mapped
// the results of `n` (and of other nodes of the pattern that stay visible), and returns true. Nodes
// of the pattern before `n` die by themselves when nothing reads them any more.
struct FusionRule {
    std::string_view name;
    bool (*apply)(const Matcher&, const Node& n, Rewriter&);
};

std::span<const FusionRule> fusion_rules();
// Those of ops that lay out FP8 operands by themselves, and have to come before k_major.
std::span<const FusionRule> layout_free_fusions();

// Applies all rules, or those named.
Graph fuse(const Graph&, const Target& = {}, std::span<const FusionRule> rules = fusion_rules());

}  // namespace octavo
