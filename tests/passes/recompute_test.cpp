#include "passes/recompute.h"

#include "io/scratch.h"
#include "runtime/run_graph.h"

namespace octavo {
namespace {

using test::count;

// Two layers x + silu(norm(x) w^T), with an fp8 cast on the way.
Graph step() {
    Graph g;
    Builder b(g);
    const Type matrix{Dtype::f32, {6, 8}}, weight{Dtype::f32, {8, 8}};
    Value x = b.input("x", matrix);
    Values wrt;
    for (int i = 0; i < 2; ++i) {
        const auto layer = b.scope(fmt::format("model.layers.{}", i));
        const auto mlp = b.scope("mlp");
        wrt.push_back(b.load(fmt::format("norm{}", i), {Dtype::f32, {8}}));
        const Value y = b.emit(RmsNorm{}, {x, wrt.back()})[0];
        wrt.push_back(b.load(fmt::format("w{}", i), weight));
        x = b.add(x, b.one(Silu{}, {b.linear(y, wrt.back())}));
    }
    const Value loss = b.one(SumRows{}, {b.reshape(x, {48, 1})});
    const Values grads = differentiate(b, loss, wrt);
    for (std::size_t i = 0; i < grads.size(); ++i) b.output(fmt::format("grad{}", i), grads[i]);
    b.output("loss", loss);
    return g;
}

TEST(Recompute, NamesItsLevels) {
    EXPECT_EQ(recompute_named("none"), Recompute::none);
    EXPECT_EQ(recompute_named("block"), Recompute::block);
    EXPECT_EQ(error_of([] { recompute_named("all"); }),
              "recompute must be none, norms, ffn or block, got 'all'");
}

TEST(Recompute, NoneIsNothing) {
    EXPECT_EQ(to_text(recompute(step(), Recompute::none)), to_text(step()));
}

TEST(Recompute, CopiesWhatItsLevelSays) {
    const Graph norms = recompute(step(), Recompute::norms);
    EXPECT_EQ(count<RmsNorm>(norms), 4);
    EXPECT_EQ(count<Silu>(norms), 2);
    // The gradients of silu want the product's result, the weight's the norm's.
    const Graph block = recompute(step(), Recompute::block);
    EXPECT_EQ(count<RmsNorm>(block), 4);
    EXPECT_EQ(count<Matmul>(block), 2 + 2 + 4);
}

TEST(Recompute, BackwardReadsOnlyWhatALayerPassesOn) {
    const Graph g = recompute(step(), Recompute::block);
    for (const Node& n : g.nodes()) {
        if (n.phase != Phase::backward) continue;
        for (Value v : n.in) {
            const Node& from = g.node(g.producer(v));
            if (from.phase != Phase::forward || from.in.empty()) continue;
            EXPECT_TRUE(std::holds_alternative<Add>(from.op))
                << op_name(n.op) << " reads " << g.value_name(v);
        }
    }
}

TEST(Recompute, KeepsEveryBit) {
    const test::Ran want = test::run_graph(step());
    for (const Recompute level : {Recompute::norms, Recompute::ffn, Recompute::block}) {
        test::expect_same_bits(test::run_graph(recompute(step(), level)), want);
    }
}

TEST(Recompute, CastsAgainWithTheScaleThatWasUsed) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::f32, {6, 8}});
    Values q;
    {
        const auto layer = b.scope("model.layers.0.mlp");
        const Value h = b.one(Silu{}, {x});
        q = b.emit(DelayedQuantise{},
                   {h, b.load("history", {Dtype::f32, {4}}), b.load("counter", {Dtype::i32, {1}}),
                    b.load("scale", {Dtype::f32, {1}})});
        b.store("history", q[1]);
        b.output("forward", b.one(Dequantise{Dtype::f32}, {q[0]}));
    }
    b.set_phase(Phase::backward);
    b.output("backward", b.one(Dequantise{Dtype::f32}, {q[0]}));

    const Graph again = recompute(g, Recompute::block);
    EXPECT_EQ(count<DelayedQuantise>(again), 1);
    EXPECT_EQ(count<Quantise>(again), 1);
    test::expect_same_bits(test::run_graph(again), test::run_graph(g));
}

}  // namespace
}  // namespace octavo
