#include "runtime/memory_plan.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "graph/rules.h"

namespace octavo {
namespace {

constexpr std::int32_t kForever = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kBlockAlignment = 256;

std::int64_t aligned(std::int64_t bytes) {
    return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
}

class Planner {
  public:
    Planner(const Graph& g, const std::vector<bool>& in_place)
        : g_(g), in_place_(in_place), root_(g.value_count()), last_use_(g.value_count(), -1) {
        std::iota(root_.begin(), root_.end(), 0);
    }

    MemoryPlan run() {
        plan_.placements.resize(g_.value_count());
        plan_.store_copies.resize(g_.nodes().size());
        find_views();
        find_last_uses();
        place_inputs_and_state();
        place_stores();
        share_in_place();
        collect_blocks();
        assign_offsets();
        for (std::int32_t v = 0; v < g_.value_count(); ++v) {
            plan_.placements[v] = plan_.placements[root(v)];
        }
        return std::move(plan_);
    }

  private:
    // The value whose memory `v` uses.
    std::int32_t root(std::int32_t v) const {
        while (root_[v] != v) v = root_[v];
        return v;
    }
    bool in_arena(std::int32_t r) const { return plan_.placements[r].storage == Storage::arena; }

    void find_views() {
        for (const Node& n : g_.nodes()) {
            if (rules_of(n.op).view) root_[n.out[0].id] = root(n.in[0].id);
        }
    }

    void find_last_uses() {
        for (std::int32_t i = 0; i < std::ssize(g_.nodes()); ++i) {
            for (Value v : g_.node(i).out) last_use_[root(v.id)] = i;
            for (Value v : g_.node(i).in) last_use_[root(v.id)] = i;
        }
        for (const Output& o : g_.outputs()) last_use_[root(o.value.id)] = kForever;
    }

    void place_inputs_and_state() {
        for (const Node& n : g_.nodes()) {
            if (const auto* load = std::get_if<Load>(&n.op)) {
                plan_.placements[n.out[0].id] = {Storage::state, 0, load->name};
                loads_[load->name].push_back(n.out[0].id);
            } else if (const auto* input = std::get_if<Input>(&n.op)) {
                plan_.placements[n.out[0].id] = {Storage::input, plan_.input_bytes, {}};
                plan_.input_bytes += aligned(total_bytes(input->type));
            }
        }
    }

    // May node `writer` write its result `out` straight into the State tensor `name`?
    bool can_write_through(const std::string& name, std::int32_t writer, int out) const {
        const auto it = loads_.find(name);
        if (it == loads_.end()) return true;
        const Node& n = g_.node(writer);
        for (const std::int32_t old : it->second) {
            if (last_use_[root(old)] > writer) return false;
            for (std::size_t k = 0; k < n.in.size(); ++k) {
                if (root(n.in[k].id) == root(old) && !allows(writer, out, k)) return false;
            }
        }
        return true;
    }

    bool in_place(std::int32_t node) const { return in_place_.empty() || in_place_[node]; }

    bool allows(std::int32_t node, int out, std::size_t in) const {
        if (!in_place(node)) return false;
        const Node& n = g_.node(node);
        for (const InPlace& p : rules_of(n.op).in_place) {
            if (p.out == out && p.operand(n.in.size()) == in) return true;
        }
        return false;
    }

    void place_stores() {
        for (std::int32_t i = 0; i < std::ssize(g_.nodes()); ++i) {
            const Node& n = g_.node(i);
            const auto* store = std::get_if<Store>(&n.op);
            if (!store) continue;
            const std::int32_t r = root(n.in[0].id);
            // Only a whole value that sits in the arena can move; a view shares its root's layout.
            const bool movable = in_arena(r) && g_.type({r}) == g_.type(n.in[0]);
            if (movable && can_write_through(store->name, g_.producer({r}), g_.result_index({r}))) {
                plan_.placements[r] = {Storage::state, 0, store->name};
                // Later loads are forbidden by the verifier, so the tensor now belongs to `r`.
            } else {
                plan_.store_copies[i] = true;
            }
        }
    }

    // Lets a result take over the memory of an operand that dies with the node.
    void share_in_place() {
        for (std::int32_t i = 0; i < std::ssize(g_.nodes()); ++i) {
            if (!in_place(i)) continue;
            const Node& n = g_.node(i);
            for (const InPlace& p : rules_of(n.op).in_place) {
                const auto operand = p.operand(n.in.size());
                if (!operand || p.out >= std::ssize(n.out)) continue;
                const std::int32_t out = n.out[p.out].id, in = root(n.in[*operand].id);
                const auto readers = std::count_if(n.in.begin(), n.in.end(),
                                                   [&](Value v) { return root(v.id) == in; });
                // A bias of one row is as large as that row, but no accumulator.
                const bool alike = g_.type({out}).shape == g_.type(n.in[*operand]).shape;
                if (root_[out] != out || !in_arena(out) || !in_arena(in) || last_use_[in] != i ||
                    readers != 1 || !alike || !same_size(out, in)) {
                    continue;
                }
                root_[out] = in;
                last_use_[in] = std::max(last_use_[in], last_use_[out]);
            }
        }
    }

    // Element for element: padding would let a vector take over the one factor it is scaled by.
    bool same_size(std::int32_t a, std::int32_t b) const {
        const Type &x = g_.type({a}), &y = g_.type({b});
        return data_bytes(x) == data_bytes(y) && total_bytes(x) == total_bytes(y);
    }

    void collect_blocks() {
        for (std::int32_t v = 0; v < g_.value_count(); ++v) {
            if (root(v) != v || !in_arena(v)) continue;
            const std::int64_t bytes = aligned(total_bytes(g_.type({v})));
            plan_.blocks.push_back({0, bytes, g_.producer({v}), last_use_[v], {v}});
        }
    }

    // Greedy, largest block first, each at the lowest offset that no block alive at the same time
    // covers (Pisarchyk and Lee, "Efficient memory management for deep neural net inference",
    // 2020).
    void assign_offsets() {
        std::vector<Block*> order;
        for (Block& b : plan_.blocks) order.push_back(&b);
        std::stable_sort(order.begin(), order.end(),
                         [](const Block* a, const Block* b) { return a->bytes > b->bytes; });
        std::vector<const Block*> placed;  // by offset
        for (Block* b : order) {
            std::int64_t offset = 0;
            for (const Block* other : placed) {
                if (other->last < b->first || b->last < other->first) continue;
                if (other->offset >= offset + b->bytes) break;
                offset = std::max(offset, other->offset + other->bytes);
            }
            b->offset = offset;
            plan_.placements[b->value.id] = {Storage::arena, offset, {}};
            plan_.arena_bytes = std::max(plan_.arena_bytes, offset + b->bytes);
            placed.insert(std::upper_bound(
                              placed.begin(), placed.end(), b,
                              [](const Block* x, const Block* y) { return x->offset < y->offset; }),
                          b);
        }
    }

    const Graph& g_;
    const std::vector<bool>& in_place_;
    MemoryPlan plan_;
    std::vector<std::int32_t> root_, last_use_;
    std::map<std::string, std::vector<std::int32_t>> loads_;
};

}  // namespace

MemoryPlan plan_memory(const Graph& g, const std::vector<bool>& in_place) {
    return Planner(g, in_place).run();
}

Peak find_peak(const MemoryPlan& plan) {
    std::map<std::int32_t, std::int64_t> change;
    for (const Block& b : plan.blocks) {
        change[b.first] += b.bytes;
        if (b.last != kForever) change[b.last + 1] -= b.bytes;
    }
    Peak peak;
    std::int64_t alive = 0;
    for (const auto& [node, bytes] : change) {
        alive += bytes;
        if (alive > peak.bytes) peak = {node, alive, {}};
    }
    for (const Block& b : plan.blocks) {
        if (b.first <= peak.node && peak.node <= b.last) peak.blocks.push_back(b);
    }
    std::stable_sort(peak.blocks.begin(), peak.blocks.end(),
                     [](const Block& a, const Block& b) { return a.bytes > b.bytes; });
    return peak;
}

}  // namespace octavo
