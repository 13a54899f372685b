#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(GatherRows, CopiesRows) {
    for (Dtype dtype : kPlainDtypes) {
        const HostTensor x = tensor(dtype, {3, 2}, {1, 2, 3, 4, 5, 6});
        const auto y = run(as_is(GatherRows{}), {x, tensor(Dtype::i32, {4}, {2, 0, 2, 1})})[0];
        EXPECT_EQ(y.type, (Type{dtype, {4, 2}}));
        EXPECT_EQ(y.values, (std::vector<double>{5, 6, 1, 2, 5, 6, 3, 4}));
        EXPECT_EQ(run(as_is(GatherRows{}), {x, tensor(Dtype::i32, {0}, {})})[0].type.shape,
                  (Shape{0, 2}));
    }
}

TEST(GatherRows, HasNoGradient) {
    Graph graph;
    Builder b(graph);
    const Value x = b.input("x", {Dtype::f32, {1, 1}}), rows = b.input("rows", {Dtype::i32, {1}});
    const auto scope = b.scope("last");
    const Value y = b.one(GatherRows{}, {x, rows});
    try {
        differentiate(b, y, {x});
        FAIL() << "differentiated";
    } catch (const Error& e) {
        EXPECT_EQ(e.message(), "gather_rows 'last' has no gradient rule.");
    }
}

TEST(GatherRows, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(GatherRows{}), {{Dtype::f32, {3, 2}}, {Dtype::i32, {2, 2}}}),
              "gather_rows: operand 1 must have 1 dimensions, got i32[2, 2]");
    EXPECT_EQ(refusal(as_is(GatherRows{}), {{Dtype::f32, {3, 2}}, {Dtype::f32, {2}}}),
              "gather_rows: operand 1 must be unscaled i32, got f32[2]");
}

}  // namespace
}  // namespace octavo::test
