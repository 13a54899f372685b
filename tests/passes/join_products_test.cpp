#include "passes/join_products.h"

#include "runtime/run_graph.h"

namespace octavo {
namespace {

constexpr Scaling kSquares{.granularity = Granularity::block_128x128};

// x w^T for weights of these types, under the names a, b, c, ...
Graph products(const Type& x, const std::vector<Type>& weights, MatmulKind kind = MatmulKind::fprop,
               const std::string& role = "work.bf16/") {
    Graph g;
    Builder b(g);
    const Value rows = b.input("x", x);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const std::string name(1, static_cast<char>('a' + i));
        const Matmul op{.trans_b = true, .kind = kind, .out = Dtype::bf16};
        b.output(name, b.one(op, {rows, b.load(role + name, weights[i])}));
    }
    return g;
}

const Type kX{Dtype::bf16, {3, 32}};

std::vector<Load> loads(const Graph& g) {
    std::vector<Load> found;
    for (const Node& n : g.nodes()) {
        if (const auto* load = std::get_if<Load>(&n.op)) found.push_back(*load);
    }
    return found;
}

TEST(JoinProducts, OneWeightWithAllRows) {
    const Graph g = join_products(
        products(kX, {{Dtype::bf16, {16, 32}}, {Dtype::bf16, {8, 32}}, {Dtype::bf16, {24, 32}}}));
    const auto weights = loads(g);
    ASSERT_EQ(weights.size(), 1u);
    EXPECT_EQ(weights[0].name, "work.bf16/a+b+c");
    EXPECT_EQ(weights[0].type, (Type{Dtype::bf16, {48, 32}}));
    EXPECT_EQ(test::count<Matmul>(g), 1);
    ASSERT_EQ(g.outputs().size(), 3u);
    EXPECT_EQ(g.type(g.outputs()[0].value), (Type{Dtype::bf16, {3, 16}}));
    EXPECT_EQ(g.type(g.outputs()[1].value), (Type{Dtype::bf16, {3, 8}}));
    EXPECT_EQ(g.type(g.outputs()[2].value), (Type{Dtype::bf16, {3, 24}}));
    EXPECT_EQ(joined_parts("a+b+c"), (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_EQ(joined_parts("a"), std::vector<std::string>{"a"});
}

TEST(JoinProducts, WholeBlocksOnly) {
    const Type x{Dtype::e4m3, {4, 128}, {.granularity = Granularity::block_1x128}};
    const auto weight = [](std::int64_t rows) { return Type{Dtype::e4m3, {rows, 128}, kSquares}; };
    EXPECT_EQ(loads(join_products(products(x, {weight(128), weight(256)}))).size(), 1u);
    EXPECT_EQ(loads(join_products(products(x, {weight(128), weight(64)}))).size(), 2u);
    const Type whole{Dtype::e4m3, {4, 128}, kPerTensor},
        scaled{Dtype::e4m3, {128, 128}, kPerTensor};
    EXPECT_EQ(loads(join_products(products(whole, {scaled, scaled}))).size(), 2u);
}

TEST(JoinProducts, LeavesOthersAlone) {
    const Type w{Dtype::bf16, {16, 32}};
    EXPECT_EQ(loads(join_products(products(kX, {w}))).size(), 1u);
    EXPECT_EQ(loads(join_products(products(kX, {w, w}, MatmulKind::plain))).size(), 2u);
    EXPECT_EQ(loads(join_products(products(kX, {w, w}, MatmulKind::fprop, ""))).size(), 2u);

    Graph biased;  // the product adds it
    Builder b(biased);
    const Value x = b.input("x", kX), bias = b.input("bias", {Dtype::f32, {16}});
    for (const char* name : {"a", "b"}) {
        const Matmul op{.trans_b = true, .kind = MatmulKind::fprop, .out = Dtype::bf16};
        const Value y = b.one(op, {x, b.load(std::string("work.bf16/") + name, w)});
        b.output(name, b.one(BiasAdd{}, {y, bias}));
    }
    EXPECT_EQ(loads(join_products(biased)).size(), 2u);
}

}  // namespace
}  // namespace octavo
