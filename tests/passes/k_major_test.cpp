#include "passes/k_major.h"

#include "passes/fuse.h"
#include "runtime/run_graph.h"

namespace octavo {
namespace {

Type codes(Shape shape, Dtype dtype = Dtype::e4m3) { return {dtype, shape, kPerTensor}; }

// The three products of a Linear layer.
Graph linear_products() {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", codes({2, 16, 32})), w = b.input("w", codes({48, 32}));
    const Value dy = b.input("dy", codes({2, 16, 48}, Dtype::e5m2));
    b.output("y", b.one(Matmul{.trans_b = true, .kind = MatmulKind::fprop}, {x, w}));
    b.output("dx", b.one(Matmul{.kind = MatmulKind::dgrad}, {dy, w}));
    b.output("dw", b.one(Matmul{.trans_a = true, .kind = MatmulKind::wgrad}, {dy, x}));
    return g;
}

TEST(KMajor, GivesTransposedCopiesToProductsThatNeedThem) {
    const Graph g = k_major(linear_products());
    EXPECT_EQ(test::count<Transpose>(g), 3);  // of w, dy and x
    for (const Node& n : g.nodes()) {
        const auto* matmul = std::get_if<Matmul>(&n.op);
        if (!matmul) continue;
        EXPECT_FALSE(matmul->trans_a);
        EXPECT_TRUE(matmul->trans_b);
    }
}

TEST(KMajor, ComputesTheSame) {
    const test::Ran got = test::run_graph(k_major(linear_products()));
    const test::Ran want = test::run_graph(linear_products());
    for (const auto& [name, w] : want.outputs) {
        EXPECT_EQ(got.outputs.at(name).type, w.type) << name;
        // The GPU's FP8 products keep about 14 bits of their sums; its others, and the CPU's, all.
        test::expect_close(got.outputs.at(name), w.values, test::on_cuda() ? 0x1p-11 : 1e-6);
    }
}

// Of stacks of experts each matrix is turned by itself.
TEST(KMajor, TurnsExpertsOneByOne) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", codes({256, 32})), w = b.input("w", codes({2, 48, 32}));
    const Value dy = b.input("dy", codes({256, 48}, Dtype::e5m2));
    const Value offsets = b.input("offsets", {Dtype::i32, {3}});
    const Matmul dgrad{.kind = MatmulKind::dgrad, .groups = 2, .alignment = 128};
    Matmul wgrad{.trans_a = true, .kind = MatmulKind::wgrad, .groups = 2, .group_k = true};
    b.output("dx", b.one(dgrad, {dy, w, offsets}));
    b.output("dw", b.one(wgrad, {dy, x, offsets}));
    const Graph turned = k_major(g);
    EXPECT_EQ(test::count<Transpose>(turned), 3);
    for (const Node& n : turned.nodes()) {
        if (const auto* transpose = std::get_if<Transpose>(&n.op)) {
            EXPECT_EQ(transpose->batched, turned.type(n.in[0]).shape.rank() == 3);
        }
        const auto* matmul = std::get_if<Matmul>(&n.op);
        EXPECT_TRUE(!matmul || (!matmul->trans_a && matmul->trans_b));
    }
    for (const auto& [name, shape] : {std::pair{0, Shape{256, 32}}, {1, Shape{2, 48, 32}}}) {
        const Value v = turned.outputs()[static_cast<std::size_t>(name)].value;
        EXPECT_EQ(turned.type(v), (Type{Dtype::f32, shape}));
    }
}

TEST(KMajor, SharesCopiesAndLeavesOtherProductsAlone) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", codes({16, 32})), dy = b.input("dy", codes({16, 48}));
    const Value plain = b.input("plain", {Dtype::bf16, {16, 32}});
    b.output("a", b.one(Matmul{.trans_a = true}, {dy, x}));
    b.output("b", b.one(Matmul{.trans_a = true}, {x, x}));
    b.output("c", b.one(Matmul{.trans_a = true}, {plain, plain}));
    EXPECT_EQ(test::count<Transpose>(k_major(g)), 2);
}

// Codes whose transposed copy is read, too, come from one pass.
TEST(KMajor, TransposedCopiesJoinTheirQuantiser) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::bf16, {48, 32}});
    const Value history = b.input("history", {Dtype::f32, {4}});
    const Value counter = b.input("counter", {Dtype::i32, {1}});
    const Value scale = b.input("scale", {Dtype::f32, {1}});
    const Values q = b.emit(DelayedQuantise{}, {x, history, counter, scale});
    b.output("y", q[0]);
    b.output("t", b.one(Transpose{}, {q[0]}));
    const Graph fused = fuse(g);
    EXPECT_EQ(test::count<Transpose>(fused), 0);
    test::expect_same_bits(test::run_graph(fused), test::run_graph(g));
}

}  // namespace
}  // namespace octavo
