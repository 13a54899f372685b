#include "passes/align_experts.h"

#include <gtest/gtest.h>

#include "graph/builder.h"

namespace octavo {
namespace {

// Tokens (5, 8) through one of three experts each.
Graph one_product() {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::f32, {5, 8}});
    const Values order = b.emit(ExpertOrder{3}, {b.input("ids", {Dtype::i32, {5, 1}})});
    const Value sorted = b.one(Dispatch{}, {x, order[0], order[1]});
    const Value w = b.load("w", {Dtype::f32, {3, 4, 8}});
    const Value y = b.one(Matmul{.trans_b = true, .groups = 3}, {sorted, w, order[2]});
    b.output("y", b.one(Combine{}, {y, order[0], order[1]}));
    return g;
}

const Node& product(const Graph& g) {
    for (const Node& n : g.nodes()) {
        if (std::holds_alternative<Matmul>(n.op)) return n;
    }
    throw Error("no product");
}

TEST(AlignExperts, MovesTheRowsOfExpertsApart) {
    const Graph g = one_product();
    EXPECT_EQ(g.type(product(g).out[0]), (Type{Dtype::f32, {5, 4}}));
    const Graph aligned = align_experts(g, 16);
    const Node& n = product(aligned);
    EXPECT_EQ(std::get<Matmul>(n.op).alignment, 16);
    // 5 rows, and up to 15 behind those of each expert.
    EXPECT_EQ(aligned.type(n.out[0]), (Type{Dtype::f32, {64, 4}}));
    EXPECT_EQ(aligned.type(aligned.outputs()[0].value), (Type{Dtype::f32, {5, 4}}));
    verify(aligned);
    // What is aligned already stays so.
    const Node& again = product(align_experts(aligned, 8));
    EXPECT_EQ(std::get<Matmul>(again.op).alignment, 16);
    const Node& both = product(align_experts(align_experts(g, 3), 16));
    EXPECT_EQ(std::get<Matmul>(both.op).alignment, 48);
}

TEST(AlignExperts, LeavesOtherGraphsAlone) {
    Graph g;
    Builder b(g);
    b.output("x", b.input("x", {Dtype::f32, {5, 8}}));
    EXPECT_EQ(to_text(align_experts(g, 128)), to_text(g));
}

}  // namespace
}  // namespace octavo
