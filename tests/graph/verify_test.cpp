#include <gtest/gtest.h>

#include "graph/builder.h"

namespace octavo {
namespace {

const Type kVector{Dtype::f32, {2}};

std::string error_of(const Graph& g) {
    try {
        verify(g);
    } catch (const Error& e) {
        return e.message();
    }
    return "no error";
}

struct Built {
    Graph g;
    Builder b{g};
};

TEST(Verify, TakesAStepThatUpdatesItsState) {
    Built t;
    const Value w = t.b.load("w", kVector);
    const Value y = t.b.add(w, t.b.input("x", kVector));
    t.b.output("y", y);
    t.b.store("w", y);
    t.b.store("copy", y);
    EXPECT_EQ(error_of(t.g), "no error");
}

TEST(Verify, OperandsComeBeforeTheirUse) {
    Graph g;
    const Value x = g.append(Input{"x", kVector}, {}, {{kVector}}, "", Phase::forward)[0];
    g.append(Add{}, {x, Value{2}}, {{kVector}}, "late", Phase::forward);
    g.append(Input{"y", kVector}, {}, {{kVector}}, "", Phase::forward);
    EXPECT_EQ(error_of(g), "add 'late' reads value %2 before it is defined");
}

TEST(Verify, OperandsAreValues) {
    Graph g;
    g.append(Silu{}, {Value{}}, {{kVector}}, "gate", Phase::forward);
    EXPECT_EQ(error_of(g), "silu 'gate' reads value %-1 before it is defined");
}

TEST(Verify, TypesAreWhatTheRuleGives) {
    const Type wrong[] = {{Dtype::f32, {3}}};
    Graph g;
    const Value x = g.append(Input{"x", kVector}, {}, {{kVector}}, "", Phase::forward)[0];
    g.append(Add{}, {x, x}, wrong, "sum", Phase::forward);
    EXPECT_EQ(error_of(g), "add 'sum': result 0 is f32[3], its rule gives f32[2]");
}

TEST(Verify, TheRuleDecidesHowManyResults) {
    const Type two[] = {kVector, kVector};
    Graph g;
    const Value x = g.append(Input{"x", kVector}, {}, {{kVector}}, "", Phase::forward)[0];
    g.append(Add{}, {x, x}, two, "sum", Phase::forward);
    EXPECT_EQ(error_of(g), "add 'sum' has 2 results, its rule gives 1");
}

TEST(Verify, TheRuleChecksOperands) {
    Graph g;
    const Value x = g.append(Input{"x", kVector}, {}, {{kVector}}, "", Phase::forward)[0];
    g.append(Add{}, {x}, {{kVector}}, "sum", Phase::forward);
    EXPECT_EQ(error_of(g), "add takes 2 operands, got 1");
}

TEST(Verify, InputsHaveNamesOfTheirOwn) {
    Built t;
    t.b.input("x", kVector);
    t.b.input("y", kVector);
    EXPECT_EQ(error_of(t.g), "no error");
    t.b.input("x", kVector);
    EXPECT_EQ(error_of(t.g), "two inputs are named 'x'");
}

TEST(Verify, StateHasOneType) {
    Built loads;
    loads.b.load("w", kVector);
    loads.b.load("w", {Dtype::bf16, {2}});
    EXPECT_EQ(error_of(loads.g), "state 'w' is used as f32[2] and as bf16[2]");

    Built stores;
    stores.b.load("w", kVector);
    stores.b.store("w", stores.b.input("x", {Dtype::f32, {3}}));
    EXPECT_EQ(error_of(stores.g), "state 'w' is used as f32[2] and as f32[3]");
}

TEST(Verify, NobodyReadsWhatWasOverwritten) {
    Built t;
    const Value w = t.b.load("w", kVector);
    t.b.store("w", t.b.one(Silu{}, {w}));
    t.b.set_label("late");
    t.b.one(Silu{}, {w});
    EXPECT_EQ(error_of(t.g), "silu 'late' reads state 'w' after it was stored");
}

TEST(Verify, NotEvenThroughAView) {
    Built t;
    const Value w = t.b.load("w", kVector);
    const Value column = t.b.reshape(w, {2, 1});
    t.b.store("w", t.b.one(Silu{}, {w}));
    t.b.set_label("late");
    t.b.one(Silu{}, {column});
    EXPECT_EQ(error_of(t.g), "silu 'late' reads state 'w' after it was stored");
}

TEST(Verify, NorAsAnOutput) {
    Built t;
    const Value w = t.b.load("w", kVector);
    t.b.output("before", t.b.reshape(w, {2, 1}));
    t.b.store("w", t.b.one(Silu{}, {w}));
    EXPECT_EQ(error_of(t.g), "output 'before' reads state 'w' after it was stored");
}

TEST(Verify, StateIsStoredOnce) {
    Built t;
    const Value x = t.b.input("x", kVector);
    t.b.store("w", x);
    t.b.store("w", x);
    EXPECT_EQ(error_of(t.g), "state 'w' is stored twice");
}

}  // namespace
}  // namespace octavo
