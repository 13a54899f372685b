#include "passes/simplify.h"

#include "runtime/run_graph.h"

namespace octavo {
namespace {

const Type kMatrix{Dtype::f32, {2, 4}};

struct Built {
    Graph g;
    Builder b{g};
};

TEST(RemoveDead, KeepsWhatIsReadStoredOrComesFromOutside) {
    Built t;
    const Value x = t.b.input("x", kMatrix);
    t.b.input("unread", kMatrix);
    const Value w = t.b.load("w", kMatrix), dead = t.b.load("dead", kMatrix);
    t.b.one(Silu{}, {t.b.add(dead, x)});
    t.b.store("stored", t.b.add(x, w));
    t.b.output("y", t.b.mul(x, w));
    const Graph g = remove_dead(t.g);
    verify(g);
    EXPECT_EQ(to_text(g), R"(%0: f32[2, 4] = input() 'x'
%1: f32[2, 4] = input() 'unread'
%2: f32[2, 4] = load() 'w'
%3: f32[2, 4] = add(%0, %2)
store(%3) 'stored'
%4: f32[2, 4] = mul(%0, %2)
output 'y' = %4
)");
}

TEST(RemoveDead, KeepsANodeForOneOfItsResults) {
    Built t;
    const Values out =
        t.b.emit(RmsNorm{}, {t.b.input("x", kMatrix), t.b.input("w", {Dtype::f32, {4}})});
    t.b.output("rstd", out[1]);
    EXPECT_EQ(to_text(remove_dead(t.g)), to_text(t.g));
}

TEST(MergeEqual, MergesChainsOfEqualNodes) {
    Built t;
    const Value x = t.b.input("x", kMatrix);
    const auto branch = [&] { return t.b.one(Silu{}, {t.b.add(x, t.b.load("w", kMatrix))}); };
    const Value first = branch(), second = branch();
    t.b.output("y", t.b.add(first, second));
    const Graph g = merge_equal(t.g);
    verify(g);
    EXPECT_EQ(to_text(g), R"(%0: f32[2, 4] = input() 'x'
%1: f32[2, 4] = load() 'w'
%2: f32[2, 4] = add(%0, %1)
%3: f32[2, 4] = silu(%2)
%4: f32[2, 4] = add(%3, %3)
output 'y' = %4
)");
}

TEST(MergeEqual, LeavesDifferentNodesAlone) {
    Built t;
    const Value x = t.b.input("x", kMatrix), y = t.b.input("y", kMatrix);
    t.b.output("cast", t.b.cast(x, Dtype::bf16));
    t.b.output("other attribute", t.b.cast(x, Dtype::f16));
    t.b.output("xy", t.b.mul(x, y));
    t.b.output("other order", t.b.mul(y, x));
    t.b.output("load", t.b.load("v", kMatrix));
    t.b.output("other load", t.b.load("w", kMatrix));
    t.b.store("a", x);
    t.b.store("b", x);
    t.b.set_phase(Phase::backward);
    t.b.output("other phase", t.b.mul(x, y));
    EXPECT_EQ(to_text(merge_equal(t.g)), to_text(t.g));
}

TEST(MergeEqual, KeepsEveryBit) {
    Built t;
    const Value x = t.b.input("x", kMatrix);
    t.b.output("y", t.b.add(t.b.one(Silu{}, {x}), t.b.one(Silu{}, {x})));
    test::expect_same_bits(test::run_graph(merge_equal(t.g)), test::run_graph(t.g));
}

Graph with_fused_ops() {
    Built t;
    const Value gate = t.b.input("gate", kMatrix), up = t.b.input("up", kMatrix);
    const Value h = t.b.one(SwiGlu{}, {gate, up});
    const Value history = t.b.load("history", {Dtype::f32, {4}});
    const Value counter = t.b.load("counter", {Dtype::i32, {1}});
    const Value scale = t.b.load("scale", {Dtype::f32, {1}});
    const Values q = t.b.emit(DelayedQuantise{}, {h, history, counter, scale});
    t.b.store("history", q[1]);
    t.b.output("q", q[0]);
    t.b.output("used", q[2]);
    const Value loss = t.b.one(SumRows{}, {t.b.reshape(h, {8, 1})});
    const Values grads = differentiate(t.b, loss, {gate, up});
    t.b.output("dgate", grads[0]);
    t.b.output("dup", grads[1]);
    const Value x = t.b.input("x", {Dtype::f32, {5, 4}}),
                w = t.b.load("head", {Dtype::f32, {3, 4}});
    const Value one = t.b.constant({Dtype::f32, {1}}, 1);
    const Values head =
        t.b.emit(HeadLoss{.chunk = 2}, {x, w, t.b.input("targets", {Dtype::i32, {5}}), one, one});
    t.b.output("loss", head[0]);
    t.b.output("dx", head[1]);
    t.b.output("dw", head[2]);
    t.b.output("biased", t.b.one(Matmul{.trans_b = true, .bias = true},
                                 {x, w, t.b.input("bias", {Dtype::f32, {3}})}));
    return t.g;
}

TEST(DecomposeAll, LeavesNoFusedOp) {
    const Graph g = decompose_all(with_fused_ops());
    verify(g);
    EXPECT_EQ(to_text(decompose_all(g)), to_text(g));
    EXPECT_EQ(test::count<SwiGlu>(g) + test::count<SwiGluGrad>(g) + test::count<HeadLoss>(g) +
                  test::count<DelayedQuantise>(g),
              0);
    EXPECT_EQ(test::count<DelayedScale>(g), 1);
}

TEST(DecomposeAll, MeansTheSame) {
    const test::Ran got = test::run_graph(decompose_all(with_fused_ops()));
    const test::Ran want = test::run_graph(with_fused_ops());
    // A dozen roundings at most lie between a fused op and its parts.
    for (const auto& [name, tensor] : want.outputs) {
        SCOPED_TRACE(name);
        test::expect_close(got.outputs.at(name), tensor.values, 12 * 0x1p-24);
    }
    for (const auto& [name, tensor] : want.state) {
        SCOPED_TRACE(name);
        test::expect_close(got.state.at(name), tensor.values, 12 * 0x1p-24);
    }
}

}  // namespace
}  // namespace octavo
