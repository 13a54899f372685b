#include "passes/join_products.h"

#include <map>
#include <utility>

#include "passes/fuse.h"
#include "passes/simplify.h"

namespace octavo {
namespace {

constexpr char kJoint = '+';

std::string_view parameter(std::string_view state) { return state.substr(state.find('/') + 1); }

// The weight of a product that can be part of another; null if it cannot.
const Load* joinable_weight(const Matcher& match, const Node& n) {
    const auto* op = std::get_if<Matmul>(&n.op);
    Matmul plain;
    if (!op) return nullptr;
    plain.trans_b = true;
    plain.kind = MatmulKind::fprop;
    plain.out = op->out;
    plain.exponent = op->exponent;
    if (*op != plain || n.in.size() != 2) return nullptr;
    // A bias is better added by the product, which then rounds once.
    if (match.only_reader_as<BiasAdd>(n.out[0])) return nullptr;
    const Node* load = match.producer_as<Load>(n.in[1]);
    if (!load || !match.used_once(n.in[1])) return nullptr;
    const Load& weight = std::get<Load>(load->op);
    const Type& type = weight.type;
    const bool whole_blocks =
        type.scaling.granularity == Granularity::block_128x128 && type.shape[0] % kScaleBlock == 0;
    const bool lines_up = type.scaling == kUnscaled || whole_blocks;
    return weight.name.starts_with("work.") && !weight.exponent && lines_up ? &weight : nullptr;
}

struct Group {
    std::vector<const Node*> products;
    std::vector<const Load*> weights;
    bool done = false;
};

bool go_together(const Group& group, const Node& n, const Load& weight) {
    const Load& first = *group.weights[0];
    return group.products[0]->op == n.op && first.type.dtype == weight.type.dtype &&
           first.type.scaling == weight.type.scaling &&
           first.name.substr(0, first.name.find('/')) ==
               weight.name.substr(0, weight.name.find('/'));
}

void emit(const Group& group, Rewriter& rewrite) {
    Load joined = *group.weights[0];
    Split split;
    std::int64_t rows = 0;
    for (std::size_t i = 0; i < group.weights.size(); ++i) {
        const Load& w = *group.weights[i];
        if (i > 0) joined.name += kJoint + std::string(parameter(w.name));
        split.sizes.push_back(w.type.shape[0]);
        rows += w.type.shape[0];
    }
    joined.type.shape = {rows, joined.type.shape[1]};
    const Node& first = *group.products[0];
    rewrite.stand_at(first);
    const Value y = rewrite.b.one(first.op, {rewrite(first.in[0]), rewrite.b.one(joined, {})});
    const Values parts = rewrite.b.emit(split, {y});
    for (std::size_t i = 0; i < parts.size(); ++i) {
        rewrite.replace(group.products[i]->out[0], parts[i]);
    }
}

}  // namespace

Graph join_products(const Graph& g) {
    const Matcher match(g);
    std::map<std::int32_t, Group> by_rows;  // by the value that they multiply
    std::map<const Node*, Group*> group_of;
    for (const Node& n : g.nodes()) {
        const Load* weight = joinable_weight(match, n);
        if (!weight) continue;
        Group& group = by_rows[n.in[0].id];
        if (!group.products.empty() && !go_together(group, n, *weight)) continue;
        group.products.push_back(&n);
        group.weights.push_back(weight);
        group_of[&n] = &group;
    }
    Rewriter rewrite(g);
    for (const Node& n : g.nodes()) {
        const auto found = group_of.find(&n);
        if (found == group_of.end() || found->second->products.size() == 1) {
            rewrite.keep(n);
            continue;
        }
        if (!std::exchange(found->second->done, true)) emit(*found->second, rewrite);
    }
    return remove_dead(rewrite.finish());
}

std::vector<std::string> joined_parts(std::string_view name) {
    std::vector<std::string> parts;
    while (true) {
        const auto end = name.find(kJoint);
        parts.emplace_back(name.substr(0, end));
        if (end == std::string_view::npos) return parts;
        name.remove_prefix(end + 1);
    }
}

}  // namespace octavo
