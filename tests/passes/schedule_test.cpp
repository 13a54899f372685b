#include "passes/schedule.h"

#include "runtime/memory_plan.h"
#include "runtime/run_graph.h"

namespace octavo {
namespace {

struct Built {
    Graph g;
    Builder b{g};
};

// y = x w0^T w1^T ..., its gradients added to what State has, all Stores at the end.
Graph accumulating_step(int layers) {
    Built t;
    const Type matrix{Dtype::f32, {64, 64}};
    Value x = t.b.one(Silu{}, {t.b.input("x", {Dtype::f32, {8, 64}})});
    Values weights;
    for (int i = 0; i < layers; ++i) {
        weights.push_back(t.b.load(fmt::format("w{}", i), matrix));
        x = t.b.linear(x, weights.back());
    }
    const Value loss = t.b.one(SumRows{}, {t.b.reshape(x, {8 * 64, 1})});
    const Values grads = differentiate(t.b, loss, weights);
    for (int i = 0; i < layers; ++i) {
        const std::string name = fmt::format("grad/w{}", i);
        t.b.store(name, t.b.add(t.b.load(name, matrix), grads[static_cast<std::size_t>(i)]));
    }
    t.b.output("loss", loss);
    return t.g;
}

std::int32_t store_of(const Graph& g, std::string_view name) {
    for (std::int32_t i = 0; i < std::ssize(g.nodes()); ++i) {
        const auto* store = std::get_if<Store>(&g.node(i).op);
        if (store && store->name == name) return i;
    }
    ADD_FAILURE() << "no store of " << name;
    return -1;
}

TEST(StoreEarly, GradientsAreStoredAsSoonAsTheyExist) {
    const Graph g = store_early(accumulating_step(4));
    verify(g);
    for (int i = 3; i >= 0; --i) {
        const std::int32_t store = store_of(g, fmt::format("grad/w{}", i));
        // product, addition, Store.
        EXPECT_EQ(g.producer(g.node(store).in[0]), store - 1);
        EXPECT_TRUE(std::holds_alternative<Matmul>(g.node(store - 2).op));
        if (i > 0) {
            EXPECT_LT(store, store_of(g, fmt::format("grad/w{}", i - 1)));
        }
    }
}

TEST(StoreEarly, KeepsEveryBitInLessMemory) {
    const Graph g = accumulating_step(6);
    const test::Ran early = test::run_graph(store_early(g)), late = test::run_graph(g);
    test::expect_same_bits(early, late);
    EXPECT_LT(early.arena_bytes, late.arena_bytes);
}

// One of its results overwrites what is still to be read, the others nothing.
TEST(StoreEarly, WhatWritesSeveralTensorsWaitsForReadersOfAny) {
    Built t;
    const Type history{Dtype::f32, {16}}, counter{Dtype::i32, {1}}, one{Dtype::f32, {1}};
    const Value old = t.b.load("history", history);
    const Value late = t.b.one(Silu{}, {t.b.one(Silu{}, {t.b.input("x", history)})});
    t.b.output("y", t.b.add(late, old));
    const Values next =
        t.b.emit(AdvanceScale{}, {old, t.b.load("counter", counter), t.b.load("scale", one)});
    t.b.store("history", next[0]);
    t.b.store("counter", next[1]);
    t.b.store("scale", next[2]);
    const Graph g = store_early(t.g);
    verify(g);
    EXPECT_EQ(std::ranges::count(plan_memory(g).store_copies, true), 0);
}

TEST(StoreEarly, WaitsForWhoeverReadsTheOldValue) {
    const Type vector{Dtype::f32, {8}};
    for (const bool through_view : {false, true}) {
        Built t;
        const Value old = t.b.load("w", vector);
        const Value read = through_view ? t.b.reshape(old, {2, 4}) : old;
        const Value next = t.b.add(old, t.b.input("step", vector));  // could be stored at once
        const Value late = t.b.one(Silu{}, {t.b.one(Silu{}, {t.b.input("x", t.b.type(read))})});
        t.b.output("y", t.b.mul(late, read));
        t.b.store("w", next);
        const Graph g = store_early(t.g);
        verify(g);
        test::expect_same_bits(test::run_graph(g), test::run_graph(t.g));
    }
}

TEST(StoreEarly, KeepsNodesThatFeedOutputsInOrder) {
    Built t;
    const Value x = t.b.input("x", {Dtype::f32, {8}});
    const Value a = t.b.one(Silu{}, {x}), c = t.b.one(Gelu{}, {x});
    t.b.output("a", a);
    t.b.output("c", c);
    EXPECT_EQ(to_text(store_early(t.g)), to_text(t.g));
}

}  // namespace
}  // namespace octavo
