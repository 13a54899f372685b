#include "passes/join_products.h"

#include "passes/fuse.h"
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

// ---- What reads them ---------------------------------------------------------------------------

// A layer's way into a cache, and its SwiGLU.
Graph layer(bool norms) {
    constexpr std::int64_t kHeads = 4, kGroups = 2, kD = 16, kTokens = 1;
    Graph g;
    Builder b(g);
    const Value qkv = b.input("x", {Dtype::f32, {1, kTokens, (kHeads + 2 * kGroups) * kD}});
    const Value positions = b.input("positions", {Dtype::i32, {1, kTokens}});
    const Values parts = b.emit(Split{{kHeads * kD, kGroups * kD, kGroups * kD}}, {qkv});
    const auto heads = [&](int i) {
        return b.reshape(parts[i], {1, kTokens, i == 0 ? kHeads : kGroups, kD});
    };
    const auto turned = [&](int i) {
        Value x = heads(i);
        if (norms) {
            const auto weight = b.input(i == 0 ? "q_norm" : "k_norm", {Dtype::f32, {kD}});
            x = b.emit(RmsNorm{1e-6f}, {x, weight})[0];
        }
        return b.one(Rope{.max_positions = 8}, {x, positions});
    };
    const Value q = turned(0), k = turned(1);
    const Type pool{Dtype::f32, {6, kGroups, kD}};
    const Values pools = b.emit(KvWrite{}, {b.load("kv/k", pool), b.load("kv/v", pool), k, heads(2),
                                            b.input("slots", {Dtype::i32, {1, kTokens}})});
    b.store("kv/k", pools[0]);
    b.store("kv/v", pools[1]);
    b.output("o", b.one(PagedAttention{1, 2}, {q, pools[0], pools[1], positions,
                                               b.input("sequences", {Dtype::i32, {1, kTokens}}),
                                               b.input("tables", {Dtype::i32, {4, 2}})}));
    const Values halves = b.emit(Split{{7, 7}}, {b.input("gate_up", {Dtype::f32, {5, 14}})});
    b.output("h", b.one(SwiGlu{}, halves));
    return g;
}

TEST(JoinProducts, ReadersTakeTheColumnsAsTheyLie) {
    for (const bool norms : {false, true}) {
        const Graph g = layer(norms), fused = fuse(g, {.reads_joined = true});
        EXPECT_EQ(test::count<Split>(fused), 0);
        EXPECT_EQ(test::count<QkvToCache>(fused), 1);
        EXPECT_EQ(test::count<Rope>(fused), 0);
        EXPECT_EQ(test::count<RmsNorm>(fused), 0);
        EXPECT_EQ(to_text(fuse(g)), to_text(g)) << "only where kernels read them";
        const test::Ran got = test::run_graph(fused), want = test::run_graph(g);
        for (const auto& [name, tensor] : want.outputs) {
            test::expect_close(got.outputs.at(name), tensor.values, 1e-5);
        }
        for (const auto& [name, tensor] : want.state) {
            test::expect_close(got.state.at(name), tensor.values, 1e-5);
        }
    }
}

// Calibration asks for the largest k, so k is not on its way alone.
TEST(JoinProducts, WhatElseIsReadStays) {
    Graph g = layer(true);
    for (const Node& n : g.nodes()) {
        if (!std::holds_alternative<KvWrite>(n.op)) continue;
        const Value k = n.in[2];
        Builder b(g);
        b.output("amax", b.one(Amax{}, {k}));
        break;
    }
    EXPECT_EQ(test::count<QkvToCache>(fuse(g, {.reads_joined = true})), 0);
}

}  // namespace
}  // namespace octavo
