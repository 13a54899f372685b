#include <gtest/gtest.h>

#include "graph/builder.h"

namespace octavo {
namespace {

const Type kVector{Dtype::f32, {3, 1}};

struct Built {
    Graph g;
    Builder b{g};

    Value sum(Value v) { return b.one(SumRows{}, {v}); }  // (3, 1) -> (1)
    std::string error_of(Value loss, const Values& wrt) {
        try {
            differentiate(b, loss, wrt);
        } catch (const Error& e) {
            return e.what();
        }
        return "no error";
    }
};

TEST(Differentiate, AddsUpTheGradientsOfEveryUse) {
    Built t;
    const Value x = t.b.input("x", kVector), y = t.b.input("y", kVector);
    // x is read three times: d/dx sum(x y + x + x) = y + 1 + 1.
    const Value loss = t.sum(t.b.add(t.b.add(t.b.mul(x, y), x), x));
    const Values grads = differentiate(t.b, loss, {x});
    verify(t.g);
    int sums = 0;
    for (Value v = grads[0]; std::holds_alternative<Add>(t.g.node(t.g.producer(v)).op);) {
        v = t.g.node(t.g.producer(v)).in[0];
        ++sums;
    }
    EXPECT_EQ(sums, 2);
    EXPECT_EQ(t.b.type(grads[0]), kVector);
}

TEST(Differentiate, GivesNoValueWhereTheLossDoesNotDepend) {
    Built t;
    const Value x = t.b.input("x", kVector), unused = t.b.input("unused", kVector);
    const Value dead = t.b.input("dead", kVector);
    t.b.mul(dead, dead);
    const Values grads = differentiate(t.b, t.sum(t.b.mul(x, x)), {unused, x, dead});
    ASSERT_EQ(grads.size(), 3u);
    EXPECT_FALSE(grads[0]);
    EXPECT_TRUE(grads[1]);
    EXPECT_FALSE(grads[2]);
}

TEST(Differentiate, LeavesOutWhatNobodyAskedFor) {
    Built t;
    const Value x = t.b.input("x", kVector), y = t.b.input("y", kVector);
    // y's branch goes through an op without a gradient rule, which is no matter for x.
    const Value scale = t.b.one(Amax{}, {y});
    const Value loss = t.b.add(t.sum(t.b.mul(x, x)), scale);
    EXPECT_EQ(t.error_of(loss, {x}), "no error");
    verify(t.g);
}

TEST(Differentiate, NodesGoUnderTheirForwardLabelInThePhaseBackward) {
    Built t;
    const Value x = t.b.input("x", kVector);
    Value y;
    {
        const auto scope = t.b.scope("layers.0.gate");
        y = t.b.one(Silu{}, {x});
    }
    t.b.set_label("outer");
    const Value loss = t.sum(y);
    const auto before = t.g.nodes().size();
    const Value dx = differentiate(t.b, loss, {x})[0];
    EXPECT_EQ(t.g.node(t.g.producer(dx)).label, "layers.0.gate");
    for (std::size_t i = before; i < t.g.nodes().size(); ++i) {
        EXPECT_EQ(t.g.nodes()[i].phase, Phase::backward);
    }
    EXPECT_EQ(t.b.label(), "outer");
    EXPECT_EQ(t.b.phase(), Phase::forward);
}

TEST(Differentiate, NamesTheOpWithoutARule) {
    Built t;
    const Value x = t.b.input("x", kVector);
    t.b.set_label("probe");
    const Value loss = t.b.one(Amax{}, {x});
    EXPECT_EQ(t.error_of(loss, {x}),
              "amax 'probe' has no gradient rule.\n  Keep it out of what the loss is computed "
              "from.");
}

TEST(Differentiate, WantsAScalarLossThatDependsOnSomething) {
    Built t;
    const Value x = t.b.input("x", kVector), y = t.b.input("y", kVector);
    EXPECT_EQ(t.error_of(x, {x}), "the loss must have one element, got f32[3, 1]");
    EXPECT_EQ(t.error_of(t.sum(x), {y}),
              "the loss does not depend on any of the 1 values to differentiate by");
}

}  // namespace
}  // namespace octavo
