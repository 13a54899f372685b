#include "passes/recompute.h"

#include <optional>
#include <string>

#include "passes/rewriter.h"

namespace octavo {
namespace {

// "model.layers.3" of "model.layers.3.mlp.up_proj"; empty outside the layers.
std::string_view layer_of(std::string_view label) {
    for (const std::string_view stem : {"layers.", "h."}) {
        const auto at = label.find(stem);
        if (at == std::string_view::npos || (at > 0 && label[at - 1] != '.')) continue;
        return label.substr(0, std::min(label.find('.', at + stem.size()), label.size()));
    }
    return {};
}

bool is_norm(const Op& op) {
    return std::holds_alternative<RmsNorm>(op) || std::holds_alternative<LayerNorm>(op);
}

class Recomputer {
  public:
    Recomputer(const Graph& g, Recompute level)
        : g_(g),
          level_(level),
          rewrite_(g),
          leaves_layer_(g.value_count()),
          copies_(g.value_count()) {}

    Graph run() {
        find_layer_results();
        for (const Node& n : g_.nodes()) {
            if (n.phase != Phase::backward) {
                rewrite_.keep(n);
                continue;
            }
            Values in;
            for (Value v : n.in) in.push_back(fresh(v));
            rewrite_.keep(n, n.op, std::move(in));
        }
        return rewrite_.finish();
    }

  private:
    // Values that another layer reads are a layer's result; they are what stays in memory.
    void find_layer_results() {
        for (const Node& n : g_.nodes()) {
            if (n.phase != Phase::forward) continue;
            for (Value v : n.in) {
                if (layer_of(g_.node(g_.producer(v)).label) != layer_of(n.label)) {
                    leaves_layer_[v.id] = true;
                }
            }
        }
        for (const Output& o : g_.outputs()) leaves_layer_[o.value.id] = true;
    }

    bool dropped(Value v) const {
        const Node& n = g_.node(g_.producer(v));
        if (n.phase != Phase::forward || n.in.empty() || leaves_layer_[v.id]) return false;
        if (layer_of(n.label).empty()) return false;
        // Scales stay: the State they come from may have moved on.
        const bool scale = g_.type(v).shape.elements() == 1;
        if (std::holds_alternative<DelayedQuantise>(n.op) && g_.result_index(v) != 0) return false;
        switch (level_) {
            case Recompute::none:
                return false;
            case Recompute::norms:
                return is_norm(n.op) && g_.result_index(v) == 0;
            case Recompute::ffn:
                return (is_norm(n.op) && g_.result_index(v) == 0) ||
                       (n.label.find(".mlp.") != std::string::npos && !scale) ||
                       (n.label.ends_with(".mlp") && !scale);
            case Recompute::block:
                return !scale;
        }
        return false;
    }

    // The value a backward node reads in place of `v`.
    Value fresh(Value v) {
        if (!dropped(v)) return rewrite_(v);
        if (copies_[v.id]) return copies_[v.id];
        const Node& n = g_.node(g_.producer(v));
        const Value x = fresh(n.in[0]);
        Values results;
        if (const auto* delayed = std::get_if<DelayedQuantise>(&n.op)) {
            // The scale that the forward cast used is a result of its own; casting with it again
            // gives the same codes without touching the history.
            stand(n);
            results = rewrite_.b.emit(Quantise{delayed->rule.to}, {x, rewrite_(n.out[2])});
        } else {
            Values in{x};
            for (std::size_t i = 1; i < n.in.size(); ++i) in.push_back(fresh(n.in[i]));
            stand(n);
            results = rewrite_.b.emit(n.op, std::move(in));
        }
        for (std::size_t i = 0; i < results.size(); ++i) copies_[n.out[i].id] = results[i];
        return copies_[v.id];
    }

    void stand(const Node& n) {
        rewrite_.b.set_label(n.label);
        rewrite_.b.set_phase(Phase::backward);
    }

    const Graph& g_;
    Recompute level_;
    Rewriter rewrite_;
    std::vector<bool> leaves_layer_;
    Values copies_;
};

}  // namespace

Recompute recompute_named(std::string_view text) {
    static constexpr std::string_view kNames[] = {"none", "norms", "ffn", "block"};
    for (int i = 0; i < 4; ++i) {
        if (kNames[i] == text) return static_cast<Recompute>(i);
    }
    fail_usage("recompute must be none, norms, ffn or block, got '{}'", text);
}

Graph recompute(const Graph& g, Recompute level) {
    return level == Recompute::none ? g : Recomputer(g, level).run();
}

}  // namespace octavo
