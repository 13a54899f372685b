#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Split, CopiesColumns) {
    for (Dtype dtype : kPlainDtypes) {
        const HostTensor x = tensor(dtype, {2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
        const auto y = run(as_is(Split{{1, 0, 3}}), {x});
        EXPECT_EQ(y[0].values, (std::vector<double>{1, 5}));
        EXPECT_EQ(y[1].type, (Type{dtype, {2, 0}}));
        EXPECT_EQ(y[2].values, (std::vector<double>{2, 3, 4, 6, 7, 8}));
        EXPECT_EQ(run(as_is(Split{{4}}), {x})[0].values, x.values);
    }
    EXPECT_EQ(run(as_is(Split{{1, 3}}), {tensor(Dtype::f32, {0, 4}, {})})[1].type.shape,
              (Shape{0, 3}));
}

TEST(Split, Gradient) {
    check_gradient(as_is(Split{{2, 1, 3}}), {random_tensor(Dtype::f64, {2, 3, 6}, 1)}, {0});
}

TEST(Split, RefusesColumnsThatAreNotThere) {
    const std::vector<Type> in = {{Dtype::f32, {2, 4}}};
    EXPECT_EQ(refusal(as_is(Split{{1, 2}}), in),
              "split: 2 pieces of 3 columns together cannot be taken from f32[2, 4]");
    EXPECT_EQ(refusal(as_is(Split{{5, -1}}), in),
              "split: 2 pieces of 4 columns together cannot be taken from f32[2, 4]");
    EXPECT_EQ(refusal(as_is(Split{{1}}), {{}}),
              "split: 1 pieces of 1 columns together cannot be taken from f32[]");
}

TEST(Split, EveryPieceNeedsAGradient) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::f64, {1, 2}});
    const Values pieces = b.emit(Split{{1, 1}}, {x});
    const Value loss = b.one(SumRows{}, {pieces[0]});
    EXPECT_THROW(differentiate(b, loss, {x}), Error);
}

}  // namespace
}  // namespace octavo::test
