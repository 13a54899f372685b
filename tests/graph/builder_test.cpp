#include "graph/builder.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

const Type kMatrix{Dtype::f32, {2, 4}};

std::string error_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.message();
    }
    return "no error";
}

TEST(Builder, ScopesNameNodes) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", kMatrix);
    {
        const auto layer = b.scope("layers.3");
        {
            const auto mlp = b.scope("mlp");
            EXPECT_EQ(b.label(), "layers.3.mlp");
            b.one(Silu{}, {x});
        }
        b.one(Silu{}, {x});
    }
    b.one(Silu{}, {x});
    EXPECT_EQ(g.node(1).label, "layers.3.mlp");
    EXPECT_EQ(g.node(2).label, "layers.3");
    EXPECT_EQ(g.node(3).label, "");
}

TEST(Builder, NodesTakeThePhase) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", kMatrix);
    b.set_phase(Phase::backward);
    b.one(Silu{}, {x});
    EXPECT_EQ(g.node(0).phase, Phase::forward);
    EXPECT_EQ(g.node(1).phase, Phase::backward);
}

TEST(Builder, LinearIsPyTorchsAndConv1dIsGpt2s) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::bf16, {3, 2, 4}});
    const Value y = b.linear(x, b.load("w", {Dtype::bf16, {5, 4}}));
    const Value z = b.conv1d(x, b.load("v", {Dtype::bf16, {4, 5}}));
    const Type want{Dtype::bf16, {3, 2, 5}};
    EXPECT_EQ(b.type(y), want);
    EXPECT_EQ(b.type(z), want);
    for (Value v : {y, z}) {
        EXPECT_EQ(std::get<Matmul>(g.node(g.producer(v)).op).kind, MatmulKind::fprop);
    }
}

TEST(Builder, CastAndReshapeToTheSameAreNothing) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", kMatrix);
    EXPECT_EQ(b.cast(x, Dtype::f32), x);
    EXPECT_EQ(b.reshape(x, {2, 4}), x);
    EXPECT_EQ(g.nodes().size(), 1u);
    EXPECT_EQ(b.type(b.cast(x, Dtype::bf16)), (Type{Dtype::bf16, {2, 4}}));
    EXPECT_EQ(b.type(b.reshape(x, {8})), (Type{Dtype::f32, {8}}));
}

TEST(Builder, ErrorsNameOpLabelExpectedAndGot) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", kMatrix), w = b.input("w", {Dtype::f32, {3, 5}});
    const auto scope = b.scope("layers.3.mlp.down_proj");
    EXPECT_EQ(error_of([&] { b.linear(x, w); }),
              "'layers.3.mlp.down_proj': matmul: K of both operands must agree, got 4 and 5 from "
              "f32[2, 4] and f32[3, 5] transposed");
    EXPECT_EQ(error_of([&] { b.emit(Silu{}, {x, w}); }),
              "'layers.3.mlp.down_proj': silu takes 1 operands, got 2");
    EXPECT_EQ(error_of([&] { b.add(x, Value{}); }),
              "add 'layers.3.mlp.down_proj': operand 1 is not a value");
    EXPECT_EQ(error_of([&] { b.add(x, Value{17}); }),
              "add 'layers.3.mlp.down_proj': operand 1 is not a value");
    EXPECT_EQ(g.nodes().size(), 2u) << "a refused node was added";
}

TEST(Graph, NamesValuesByWhatTheyAre) {
    Graph g;
    Builder b(g);
    const Value x = b.input("ids", kMatrix), w = b.load("model.norm.weight", kMatrix);
    EXPECT_EQ(g.value_name(x), "ids");
    EXPECT_EQ(g.value_name(w), "model.norm.weight");
    EXPECT_EQ(g.value_name(b.add(x, w)), "%2");
    const auto scope = b.scope("layers.0");
    EXPECT_EQ(g.value_name(b.add(x, w)), "%3 (add of layers.0)");
    EXPECT_EQ(g.value_name({}), "none");
}

TEST(Graph, KnowsProducersAndCountsUses) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", kMatrix), w = b.input("w", {Dtype::f32, {4}});
    const Values out = b.emit(RmsNorm{}, {x, w});  // y, rstd
    b.output("sum", b.add(out[0], out[0]));
    b.output("x", x);
    EXPECT_EQ(g.producer(out[1]), 2);
    EXPECT_EQ(g.result_index(out[1]), 1);
}

}  // namespace
}  // namespace octavo
