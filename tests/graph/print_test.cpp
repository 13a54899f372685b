#include <gtest/gtest.h>

#include "graph/builder.h"
#include "graph/provider.h"

namespace octavo {
namespace {

Graph tiny() {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::bf16, {2, 4}});
    const Type one{Dtype::f32, {1}};
    const Value scale = b.one(ComputeScale{}, {b.one(Amax{}, {x}), b.constant(one, 0.5)});
    const auto scope = b.scope("layers.0.q_proj");
    const Value q = b.one(Quantise{Dtype::e4m3}, {x, scale});
    const Value w = b.load("w", {Dtype::e4m3, {3, 4}, kPerTensor});
    const Value y =
        b.one(Matmul{.trans_b = true, .kind = MatmulKind::fprop, .out = Dtype::bf16}, {q, w});
    const Values norm = b.emit(RmsNorm{1e-6f}, {y, b.load("norm", {Dtype::f32, {3}})});
    b.store("last", norm[0]);
    b.output("y", norm[0]);
    return g;
}

TEST(Print, Text) {
    EXPECT_EQ(to_text(tiny()),
              R"(%0: bf16[2, 4] = input() 'x'
%1: f32[1] = amax(%0)
%2: f32[1] = constant() 0.5
%3: f32[1] = compute_scale(%1, %2) e4m3
%4: e4m3[2, 4] x tensor (current) = quantise(%0, %3) e4m3  # layers.0.q_proj
%5: e4m3[3, 4] x tensor (recorded) = load() 'w'  # layers.0.q_proj
%6: bf16[2, 3] = matmul(%4, %5) trans_b fprop  # layers.0.q_proj
%7: f32[3] = load() 'norm'  # layers.0.q_proj
%8: bf16[2, 3], %9: f32[2] = rms_norm(%6, %7) eps=1e-06  # layers.0.q_proj
store(%8) 'last'  # layers.0.q_proj
output 'y' = %8
)");
}

TEST(Print, Attributes) {
    EXPECT_EQ(attributes(Add{}), "");
    EXPECT_EQ(attributes(Matmul{.trans_a = true, .kind = MatmulKind::wgrad, .accumulate = true}),
              " trans_a wgrad accumulate");
    EXPECT_EQ(attributes(Matmul{.trans_b = true, .kind = MatmulKind::fprop, .bias = true}),
              " trans_b fprop bias");
    EXPECT_EQ(attributes(DelayedQuantise{{Dtype::e5m2, ScaleRounding::exact, 2}}),
              " e5m2 exact margin=2");
    EXPECT_EQ(attributes(DelayedQuantise{{Dtype::e4m3, ScaleRounding::pow2, 0}}), " e4m3");
    EXPECT_EQ(attributes(DelayedQuantise{.rule = {Dtype::e5m2},
                                         .of = QuantiseSource::swiglu_grad,
                                         .transpose = true,
                                         .scaled = ScaleAlong{Axis::row, true}}),
              " e5m2 of swiglu_grad scaled row inverse transpose");
    EXPECT_EQ(attributes(Quantise{Dtype::e4m3, Copies::both}), " e4m3 both");
    EXPECT_EQ(attributes(RmsNorm{.eps = 0.5f, .statistics = true}), " eps=0.5 statistics");
    EXPECT_EQ(attributes(HeadLoss{.trans_b = true, .accumulate = false, .chunk = 7}),
              " trans_b chunk=7");
    EXPECT_EQ(attributes(Rope{.theta = 1e4, .inverse = true}), " theta=10000 inverse");
}

TEST(Print, ProvidersOfState) {
    const StoredProviders stored{{"w", "predicted"}};
    EXPECT_NE(to_text(tiny(), stored).find("%5: e4m3[3, 4] x tensor (predicted) = load() 'w'"),
              std::string::npos);
    EXPECT_NE(to_graphviz(tiny(), stored).find("[label=\"e4m3[3, 4] x tensor (predicted)\"]"),
              std::string::npos);
}

TEST(Print, Graphviz) {
    const std::string dot = to_graphviz(tiny());
    EXPECT_TRUE(dot.starts_with("digraph octavo {"));
    EXPECT_TRUE(dot.ends_with("}\n"));
    EXPECT_NE(dot.find("n6 [label=\"matmul trans_b fprop\\nlayers.0.q_proj\""), std::string::npos);
    EXPECT_NE(dot.find("n4 -> n6 [label=\"e4m3[2, 4] x tensor (current)\"];"), std::string::npos);
}

}  // namespace
}  // namespace octavo
