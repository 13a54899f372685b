#include "passes/schedule.h"

#include "passes/rewriter.h"

namespace octavo {
namespace {

// Nodes that may move: Stores, and what only moving nodes read.
std::vector<bool> find_movable(const Graph& g) {
    std::vector<bool> read_by_fixed(g.value_count());
    for (const Output& o : g.outputs()) read_by_fixed[o.value.id] = true;
    std::vector<bool> movable(g.nodes().size());
    for (auto i = std::ssize(g.nodes()) - 1; i >= 0; --i) {
        const Node& n = g.nodes()[i];
        movable[i] = std::holds_alternative<Store>(n.op) || !n.out.empty();
        for (Value v : n.out) movable[i] = movable[i] && !read_by_fixed[v.id];
        if (movable[i]) continue;
        for (Value v : n.in) read_by_fixed[v.id] = true;
    }
    return movable;
}

class EarlyScheduler {
  public:
    explicit EarlyScheduler(const Graph& g)
        : g_(g),
          rewrite_(g),
          movable_(find_movable(g)),
          missing_(g.nodes().size()),
          readers_(g.value_count()) {}

    Graph run() {
        for (std::int32_t i = 0; i < std::ssize(g_.nodes()); ++i) {
            if (!movable_[i]) continue;
            for (Value v : g_.node(i).in) {
                ++missing_[i];
                readers_[v.id].push_back(i);
            }
        }
        // Sources cost nothing and must not hold anybody up.
        for (std::int32_t i = 0; i < std::ssize(g_.nodes()); ++i) {
            if (is_source(i)) emit(i);
        }
        for (std::int32_t i = 0; i < std::ssize(g_.nodes()); ++i) {
            if (!is_source(i) && !movable_[i]) emit(i);
        }
        return rewrite_.finish();
    }

  private:
    bool is_source(std::int32_t i) const { return g_.node(i).in.empty(); }

    // Emits a node and every movable node that was waiting for nothing else.
    void emit(std::int32_t i) {
        std::vector<std::int32_t> ready{i};
        while (!ready.empty()) {
            const Node& n = g_.node(ready.back());
            ready.pop_back();
            rewrite_.keep(n);
            for (Value v : n.out) {
                for (const std::int32_t reader : readers_[v.id]) {
                    if (--missing_[reader] == 0) ready.push_back(reader);
                }
            }
        }
    }

    const Graph& g_;
    Rewriter rewrite_;
    std::vector<bool> movable_;
    std::vector<int> missing_;  // operands a movable node still waits for
    std::vector<std::vector<std::int32_t>> readers_;
};

}  // namespace

Graph store_early(const Graph& g) { return EarlyScheduler(g).run(); }

}  // namespace octavo
