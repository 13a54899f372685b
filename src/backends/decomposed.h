// A kernel for any op that has a definition in simpler ones: their kernels, one after the other,
// through scratch. What a backend falls back on where it has no kernel that does all at once.
#pragma once

#include <memory>

#include "backends/kernels.h"
#include "graph/builder.h"

namespace octavo {

class Decomposed {
  public:
    Decomposed(const KernelRegistry& registry, const NodeView& node) {
        Builder b(graph_);
        for (std::size_t i = 0; i < node.in.size(); ++i) {
            in_.push_back(b.input(fmt::format("{}", i), node.in[i]));
        }
        out_ = rules_of(node.op).decompose(b, node.op, in_);
        check(out_.size() == node.out.size(), "{} has no definition in simpler ops",
              op_name(node.op));
        places_.assign(graph_.value_count(), -1);
        std::int64_t own = 0;
        for (const Node& n : graph_.nodes()) {
            Types types;
            for (const Value v : n.in) types.push_back(graph_.type(v));
            Step step{&n, {}};
            if (!std::holds_alternative<Input>(n.op)) {
                step.prepared = prepare_op(registry, n.op, types);
                own = std::max(own, step.prepared.scratch_bytes);
                steps_.push_back(std::move(step));
            }
            if (rules_of(n.op).view) continue;
            for (const Value v : n.out) {
                if (std::ranges::find(out_, v) == out_.end() && !is_input(v)) {
                    places_[v.id] = scratch_.reserve(total_bytes(graph_.type(v)));
                }
            }
        }
        own_at_ = scratch_.reserve(own);
    }

    std::int64_t scratch_bytes() const { return scratch_.bytes(); }

    void operator()(const KernelCall& call) const {
        std::vector<TensorRef> tensors(graph_.value_count());
        for (std::size_t i = 0; i < in_.size(); ++i) tensors[in_[i].id] = call.in[i];
        for (std::int32_t v = 0; v < graph_.value_count(); ++v) {
            if (places_[v] >= 0) {
                tensors[v] = tensor_at(graph_.type({v}), call.scratch + places_[v]);
            }
        }
        for (std::size_t i = 0; i < out_.size(); ++i) tensors[out_[i].id] = call.out[i];
        for (const Step& step : steps_) {
            std::vector<TensorRef> in, out;
            for (const Value v : step.node->in) in.push_back(tensors[v.id]);
            if (rules_of(step.node->op).view) {
                TensorRef& view = tensors[step.node->out[0].id];
                view = in[0];
                view.type = graph_.type(step.node->out[0]);
                continue;
            }
            for (const Value v : step.node->out) out.push_back(tensors[v.id]);
            step.prepared.run({in, out, call.scratch + own_at_});
        }
    }

  private:
    struct Step {
        const Node* node;
        Prepared prepared;
    };

    bool is_input(Value v) const { return std::ranges::find(in_, v) != in_.end(); }

    Graph graph_;
    Values in_, out_;
    std::vector<Step> steps_;
    std::vector<std::int64_t> places_;  // in scratch, by value; -1: none of their own
    ScratchCounter scratch_;
    std::int64_t own_at_ = 0;
};

inline Prepared prepare_decomposed(const KernelRegistry& registry, const NodeView& node) {
    auto kernel = std::make_shared<const Decomposed>(registry, node);
    return {[kernel](const KernelCall& call) { (*kernel)(call); }, kernel->scratch_bytes()};
}

}  // namespace octavo
