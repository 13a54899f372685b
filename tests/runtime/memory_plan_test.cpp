#include "runtime/memory_plan.h"

#include "runtime/check_plan.h"
#include "runtime/run_graph.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::complaint;

const Type kVector{Dtype::f32, {100}};  // a block of 512 bytes

struct Built {
    Graph g;
    Builder b{g};

    Value silu(Value x) { return b.one(Silu{}, {x}); }
};

TEST(MemoryPlan, ChainsWorkInPlace) {
    Built t;
    Value x = t.b.input("x", kVector);
    for (int i = 0; i < 5; ++i) x = t.silu(x);
    t.b.output("y", x);
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    EXPECT_EQ(plan.arena_bytes, 512);
    EXPECT_EQ(plan.input_bytes, 512);
    ASSERT_EQ(plan.blocks.size(), 1u);
    EXPECT_EQ(plan.blocks[0].first, 1);
}

TEST(MemoryPlan, AnOperandThatLivesOnIsNotOverwritten) {
    Built t;
    const Value a = t.silu(t.b.input("x", kVector)), c = t.silu(a);
    t.b.output("y", t.b.add(a, c));
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    EXPECT_EQ(plan.arena_bytes, 1024);  // the addition takes a's or c's place
}

TEST(MemoryPlan, OutputsLiveForever) {
    Built t;
    const Value a = t.silu(t.b.input("x", kVector));
    t.b.output("a", a);
    Value y = a;
    for (int i = 0; i < 3; ++i) y = t.silu(y);
    t.b.output("y", y);
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    EXPECT_EQ(plan.arena_bytes, 1024);
}

TEST(MemoryPlan, ViewsShareAndKeepAlive) {
    Built t;
    const Value a = t.silu(t.b.input("x", kVector));
    const Value view = t.b.reshape(a, {10, 10});
    const Value other = t.silu(a);
    t.b.output("y", t.b.add(t.b.reshape(other, {10, 10}), view));
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    EXPECT_EQ(plan.placements[view.id].offset, plan.placements[a.id].offset);
    EXPECT_NE(plan.placements[other.id].offset, plan.placements[a.id].offset);
}

TEST(MemoryPlan, InPlaceOnlyElementForElement) {
    Built t;
    // bf16[24] and f32[1] both take 64 bytes with padding.
    const Value x = t.b.input("x", {Dtype::bf16, {24}});
    const Value factor = t.b.one(Amax{}, {x});
    t.b.output("x", x);
    const Value y = t.b.mul(x, factor);
    t.b.output("y", y);
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_NE(plan.placements[y.id].offset, plan.placements[factor.id].offset);
}

TEST(MemoryPlan, ResultsGoStraightIntoState) {
    Built t;
    const Value old = t.b.load("w", kVector);
    const Value next = t.b.add(old, t.b.input("x", kVector));
    t.b.store("w", next);
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    EXPECT_EQ(plan.placements[next.id].storage, Storage::state);
    EXPECT_EQ(plan.placements[next.id].state, "w");
    EXPECT_FALSE(plan.store_copies.back());
    EXPECT_EQ(plan.arena_bytes, 0);
}

TEST(MemoryPlan, NotWhileTheOldContentsAreWanted) {
    Built t;
    const Value old = t.b.load("w", kVector);
    const Value next = t.silu(t.b.input("x", kVector));
    t.b.output("y", t.b.add(next, t.b.reshape(old, {100})));  // reads `old` after `next` exists
    t.b.store("w", next);
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    EXPECT_EQ(plan.placements[next.id].storage, Storage::arena);
    EXPECT_TRUE(plan.store_copies.back());
}

TEST(MemoryPlan, NotByAnOpThatCannotWorkInPlace) {
    Built t;
    const Type square{Dtype::f32, {10, 10}};
    const Value old = t.b.load("w", square), x = t.b.input("x", square);
    t.b.store("w", t.b.linear(old, x));
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    EXPECT_TRUE(plan.store_copies.back());
}

TEST(MemoryPlan, OneValueInTwoTensors) {
    Built t;
    const Value y = t.silu(t.b.input("x", kVector));
    t.b.store("a", y);
    t.b.store("b", y);
    t.b.store("c", t.b.load("d", kVector));
    t.b.store("e", t.b.input("z", kVector));
    t.b.store("f", t.b.reshape(y, {10, 10}));
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    int copies = 0;
    for (const bool c : plan.store_copies) copies += c;
    EXPECT_EQ(copies, 4);
}

TEST(MemoryPlan, AValueNobodyReadsHasAPlaceWhileItIsWritten) {
    Built t;
    const Value x = t.b.input("x", {Dtype::f32, {10, 10}});
    const Values norm = t.b.emit(RmsNorm{}, {x, t.b.input("w", {Dtype::f32, {10}})});
    t.b.output("y", norm[0]);
    EXPECT_EQ(complaint(t.g, plan_memory(t.g)), "");
}

TEST(MemoryPlan, EmptyTensorsTakeNothing) {
    Built t;
    const Value x = t.b.input("x", {Dtype::f32, {0, 4}});
    t.b.output("y", t.silu(t.silu(x)));
    const MemoryPlan plan = plan_memory(t.g);
    EXPECT_EQ(complaint(t.g, plan), "");
    EXPECT_EQ(plan.arena_bytes, 0);
}

TEST(MemoryPlan, FindsThePeak) {
    Built t;
    const Value x = t.b.input("x", kVector);
    const Value a = t.b.one(Concat{}, {x}), c = t.b.one(Concat{}, {x, x});  // 512 and 1024 bytes
    const Value both = t.b.one(Concat{}, {a, c});                           // 1280 more
    const Value y = t.b.one(SumRows{}, {t.b.reshape(both, {300, 1})});
    t.b.output("y", y);
    const MemoryPlan plan = plan_memory(t.g);
    const Peak peak = find_peak(plan);
    EXPECT_EQ(peak.node, t.g.producer(both));
    EXPECT_EQ(peak.bytes, 512 + 1024 + 1280);
    ASSERT_EQ(peak.blocks.size(), 3u);
    EXPECT_EQ(peak.blocks[0].value, both);
    EXPECT_EQ(peak.blocks[2].value, a);
    EXPECT_EQ(plan.arena_bytes, peak.bytes);
    EXPECT_EQ(find_peak({}).bytes, 0);
}

// Elementwise ops, views, products and State in random order.
class RandomGraph {
  public:
    explicit RandomGraph(std::uint64_t seed) : rng_(seed, 0) {
        for (int i = 0; i < 3; ++i) {
            values_.push_back(t_.b.input(fmt::format("x{}", i), square()));
            values_.push_back(t_.b.load(fmt::format("s{}", i), square()));
        }
        for (int i = 0; i < 40; ++i) step(i);
        for (const char* name : {"a", "b"}) {
            const Value v = pick();
            if (!is_source(v)) t_.b.output(name, v);
        }
        // Nobody may read State after its Store, so these come last.
        Values stored;
        for (int i = 0; i < 4; ++i) stored.push_back(as_square(pick()));
        for (std::size_t i = 0; i < stored.size(); ++i) {
            if (!is_source(stored[i])) t_.b.store(fmt::format("s{}", i), stored[i]);
        }
    }
    const Graph& graph() const { return t_.g; }

  private:
    Type square() const { return {Dtype::f32, {6, 6}}; }
    std::uint64_t draw(std::uint64_t n) { return rng_.bits64(count_++) % n; }
    Value pick() { return values_[draw(values_.size())]; }
    Value as_square(Value v) { return t_.b.reshape(v, {6, 6}); }
    bool is_source(Value v) {
        const Node* n = &t_.g.node(t_.g.producer(v));
        while (std::holds_alternative<Reshape>(n->op)) n = &t_.g.node(t_.g.producer(n->in[0]));
        return n->in.empty();
    }
    void step(int i) {
        Builder& b = t_.b;
        switch (draw(6)) {
            case 0:
                return values_.push_back(t_.silu(pick()));
            case 1:
                return values_.push_back(b.add(as_square(pick()), as_square(pick())));
            case 2:
                return values_.push_back(b.mul(as_square(pick()), as_square(pick())));
            case 3:
                return values_.push_back(b.reshape(pick(), {4, 9}));
            case 4:
                return values_.push_back(
                    b.one(Matmul{.trans_b = true, .accumulate = true},
                          {as_square(pick()), as_square(pick()), as_square(pick())}));
            default:
                const Value x = as_square(pick());
                const Values out = b.emit(RmsNorm{}, {x, b.load("norm", {Dtype::f32, {6}})});
                if (i % 2) b.output(fmt::format("rstd{}", i), out[1]);
                values_.push_back(out[0]);
        }
    }

    Built t_;
    Rng rng_;
    std::uint64_t count_ = 0;
    Values values_;
};

// Every value an output: nothing shares memory, nothing is overwritten.
Graph keeping_everything(Graph g) {
    for (const Node& n : g.nodes()) {
        const Node* root = &n;
        while (rules_of(root->op).view) root = &g.node(g.producer(root->in[0]));
        if (std::holds_alternative<Load>(root->op)) continue;
        for (Value v : n.out) g.add_output(fmt::format("keep{}", v.id), v);
    }
    return g;
}

TEST(MemoryPlan, RandomGraphsKeepEveryValueAsLongAsItIsWanted) {
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        const RandomGraph random(seed);
        ASSERT_EQ(complaint(random.graph(), plan_memory(random.graph())), "")
            << "seed " << seed << "\n"
            << to_text(random.graph());
    }
}

TEST(MemoryPlan, RandomGraphsGiveTheBitsOfAPlanThatSharesNothing) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        SCOPED_TRACE(seed);
        const RandomGraph random(seed);
        const test::Ran shared = test::run_graph(random.graph());
        test::Ran kept = test::run_graph(keeping_everything(random.graph()));
        EXPECT_LT(shared.arena_bytes, kept.arena_bytes);
        std::erase_if(kept.outputs, [](const auto& o) { return o.first.starts_with("keep"); });
        test::expect_same_bits(shared, kept);
    }
}

TEST(MemoryPlan, WholeSteps) {
    for (const Family family : {Family::llama, Family::qwen3, Family::gpt2}) {
        for (const char* recipe : {"fp32", "bf16", "fp8-lm"}) {
            for (const Recompute level : {Recompute::none, Recompute::block}) {
                for (const bool fuse : {true, false}) {
                    SCOPED_TRACE(fmt::format("{} {} {} {}", name(family), recipe,
                                             static_cast<int>(level), fuse));
                    StepOptions o = test::tiny_options(family, recipe);
                    o.recompute = level;
                    o.fuse = fuse;
                    const Graph micro = micro_graph(o, false);
                    for (const Graph& g :
                         {micro, micro_graph(o, true), eval_graph(o), update_graph(o, micro),
                          refresh_graph(o.recipe, micro)}) {
                        verify(g);
                        EXPECT_EQ(complaint(g, plan_memory(g)), "");
                    }
                }
            }
        }
    }
}

TEST(MemoryPlan, WholeStepGivesTheBitsOfAPlanThatSharesNothing) {
    const StepOptions o = test::tiny_options(Family::llama, "fp8-lm");
    const Graph g = micro_graph(o, true);
    test::Ran kept = test::run_graph(keeping_everything(g));
    std::erase_if(kept.outputs, [](const auto& out) { return out.first.starts_with("keep"); });
    test::expect_same_bits(test::run_graph(g), kept);
}

}  // namespace
}  // namespace octavo
