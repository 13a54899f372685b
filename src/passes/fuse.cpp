#include "passes/fuse.h"

#include "passes/fuse_rules.h"
#include "passes/simplify.h"

namespace octavo {
namespace fusions {

Value term_before(const Node& add, Value term, const Rewriter& rewrite) {
    const Value other = add.in[0] == term ? add.in[1] : add.in[0];
    return rewrite.has(other) ? other : Value{};
}

const Node* only_reader_as_sum(const Matcher& match, Value v) {
    const Node* add = match.only_reader_as<Add>(v);
    return add && std::get<Add>(add->op) == Add{} ? add : nullptr;
}

bool bring_forward(const Matcher& match, Value v, const Node& n, Rewriter& rewrite) {
    if (rewrite.has(v)) return true;
    const Node& producer = match.producer(v);
    if (&producer == &n) return false;
    for (const Value in : producer.in) {
        if (!bring_forward(match, in, n, rewrite)) return false;
    }
    rewrite.keep(producer);
    return true;
}

}  // namespace fusions

namespace {

constexpr FusionRule kFusions[] = {
    {"head_loss", fusions::head_loss},
    {"head_accumulate", fusions::head_accumulate},
    {"matmul_cast", fusions::matmul_cast},
    {"matmul_bias", fusions::matmul_bias},
    {"matmul_exponent", fusions::matmul_exponent},
    {"matmul_accumulate", fusions::matmul_accumulate},
    {"embedding_accumulate", fusions::embedding_accumulate},
    {"joined_swiglu", fusions::joined_swiglu},
    {"qkv_to_cache", fusions::qkv_to_cache},
    {"norm_grad_accumulate", fusions::norm_grad_accumulate},
    {"measure_norm_grad", fusions::measure_norm_grad},
    {"scale_along_accumulate", fusions::scale_along_accumulate},
    {"delayed_quantise_transpose", fusions::delayed_quantise_transpose},
    {"quantise_transpose", fusions::quantise_transpose},
    {"cast_transpose", fusions::cast_transpose},
    {"current_quantise", fusions::current_quantise},
    {"scaled_add_cast", fusions::scaled_add_cast},
    {"cast_source", fusions::cast_source},
    {"quantise_source", fusions::quantise_source},
    {"quantise_scaled", fusions::quantise_scaled},
    {"quantise_norm", fusions::quantise_norm},
    {"current_quantise_source", fusions::current_quantise_source},
    {"current_quantise_norm", fusions::current_quantise_norm},
    {"current_quantise_smooth", fusions::current_quantise_smooth},
    {"block_quantise_columns", fusions::block_quantise_columns},
    {"block_quantise_source", fusions::block_quantise_source},
    {"block_quantise_norm", fusions::block_quantise_norm},
    {"norm_statistics", fusions::norm_statistics},
    {"rms_norm_quantise", fusions::rms_norm_quantise},
    {"amax_of_result", fusions::amax_of_result},
    {"copy_of_weight", fusions::copy_of_weight},
};

Graph apply(const Graph& g, const FusionRule& rule, const Target& target) {
    const Matcher match(g, target);
    Rewriter rewrite(g);
    for (const Node& n : g.nodes()) {
        // A rule may have mapped this node's results already, standing at an earlier node.
        bool done = !n.out.empty();
        for (Value v : n.out) done = done && rewrite.has(v);
        if (done || rule.apply(match, n, rewrite)) continue;
        rewrite.keep(n);
    }
    return remove_dead(rewrite.finish());
}

}  // namespace

Matcher::Matcher(const Graph& g, const Target& target)
    : g_(g), target_(target), readers_(g.value_count()), is_output_(g.value_count()) {
    for (std::int32_t i = 0; i < std::ssize(g.nodes()); ++i) {
        for (Value v : g.node(i).in) readers_[v.id].push_back(i);
    }
    for (const Output& o : g.outputs()) is_output_[o.value.id] = true;
}

std::span<const FusionRule> fusion_rules() { return kFusions; }
std::span<const FusionRule> layout_free_fusions() { return std::span(kFusions).first(1); }

Graph fuse(const Graph& g, const Target& target, std::span<const FusionRule> rules) {
    Graph fused = g;
    for (const FusionRule& rule : rules) fused = apply(fused, rule, target);
    return fused;
}

}  // namespace octavo
