#include "runtime/roofline.h"

#include "io/scratch.h"
#include "runtime/run_graph.h"

namespace octavo {
namespace {

Node node_of(const Graph& g, Value v) { return g.node(g.producer(v)); }

TEST(Roofline, ProductsCountTwoFlopsAMultiplication) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::bf16, {32, 16}}), w = b.input("w", {Dtype::bf16, {8, 16}});
    const Value y = b.one(Matmul{.trans_b = true, .out = Dtype::f32}, {x, w});
    const Work work = work_of(g, node_of(g, y));
    EXPECT_EQ(work.flops, 2.0 * 32 * 8 * 16);
    EXPECT_EQ(work.dtype, Dtype::bf16);
    EXPECT_EQ(work.bytes, 2.0 * 32 * 16 + 2.0 * 8 * 16 + 4.0 * 32 * 8);
}

// Experts share the rows that a product sums over: together they multiply as often as one would.
TEST(Roofline, ExpertsShareTheSumOfAWeightGradient) {
    Graph g;
    Builder b(g);
    const Value dy = b.input("dy", {Dtype::f32, {64, 8}}), x = b.input("x", {Dtype::f32, {64, 16}});
    const Value first = b.input("first", {Dtype::i32, {5}});
    const Value dw = b.one(Matmul{.trans_a = true, .groups = 4, .group_k = true}, {dy, x, first});
    EXPECT_EQ(work_of(g, node_of(g, dw)).flops, 2.0 * 8 * 16 * 64);
}

TEST(Roofline, AttentionIsCausal) {
    Graph g;
    Builder b(g);
    const std::int64_t batch = 2, t = 16, heads = 4, d = 8;
    const Value q = b.input("q", {Dtype::f32, {batch, t, heads, d}});
    const Value k = b.input("k", {Dtype::f32, {batch, t, 2, d}});
    const Value v = b.input("v", {Dtype::f32, {batch, t, 2, d}});
    const Values o = b.emit(Attention{}, {q, k, v});
    const auto pairs = static_cast<double>(batch * heads * t * (t + 1) / 2);
    EXPECT_EQ(work_of(g, node_of(g, o[0])).flops, 4 * d * pairs);
}

TEST(Roofline, TablesCountTheRowsInUse) {
    Graph g;
    Builder b(g);
    const Value table = b.input("table", {Dtype::f32, {1000, 8}});
    const Value ids = b.input("ids", {Dtype::i32, {16}});
    EXPECT_EQ(work_of(g, node_of(g, b.one(Embedding{}, {table, ids}))).bytes,
              2.0 * 16 * 8 * 4 + 4 * 16);
}

TEST(Roofline, ANodeIsBoundByArithmeticOrByBytes) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::f32, {32, 16}}), w = b.input("w", {Dtype::f32, {8, 16}});
    const Value y = b.one(Matmul{.trans_b = true}, {x, w});
    b.output("y", b.reshape(b.one(Silu{}, {y}), {256}));
    const Plan plan(g, test::backend());
    const double flops = 2.0 * 32 * 8 * 16, product_bytes = 4.0 * (32 * 16 + 8 * 16 + 32 * 8),
                 silu_bytes = 2.0 * 4 * 32 * 8;
    const Floor slow = floor_of(plan, {{{Dtype::f32, flops}}, 2 * product_bytes});
    EXPECT_EQ(slow.arithmetic, 1);
    EXPECT_EQ(slow.bytes, silu_bytes / (2 * product_bytes));
    const Floor fast = floor_of(plan, {{{Dtype::f32, 2 * flops}}, product_bytes});
    EXPECT_EQ(fast.arithmetic, 0);
    EXPECT_EQ(fast.seconds(), 1 + silu_bytes / product_bytes);
}

TEST(Roofline, RatesCoverThePlans) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::bf16, {16, 16}}),
                w = b.input("w", {Dtype::bf16, {16, 16}});
    b.output("y", b.one(Matmul{.trans_b = true, .out = Dtype::bf16}, {x, w}));
    const Plan plan(g, test::backend());
    const Plan* plans[] = {&plan};
    const Rates rates = measure_rates(test::backend(), plans);
    ASSERT_EQ(rates.flops_per_s.size(), 1u);
    EXPECT_GT(rates.flops_per_s.at(Dtype::bf16), 1e9);
    EXPECT_GT(rates.bytes_per_s, 1e8);
}

}  // namespace
}  // namespace octavo
