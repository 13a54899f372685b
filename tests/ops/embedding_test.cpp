#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Embedding, CopiesRows) {
    for (Dtype dtype : kPlainDtypes) {
        const HostTensor table = tensor(dtype, {3, 2}, {1, 2, 3, 4, 5, 6});
        const auto y =
            run(as_is(Embedding{}), {table, tensor(Dtype::i32, {2, 2}, {2, 0, 2, 1})})[0];
        EXPECT_EQ(y.type, (Type{dtype, {2, 2, 2}}));
        EXPECT_EQ(y.values, (std::vector<double>{5, 6, 1, 2, 5, 6, 3, 4}));
    }
}

TEST(Embedding, NoIds) {
    const auto y = run(as_is(Embedding{}),
                       {random_tensor(Dtype::f32, {3, 2}, 1), tensor(Dtype::i32, {0}, {})})[0];
    EXPECT_EQ(y.type.shape, (Shape{0, 2}));
}

TEST(Embedding, Gradient) {
    check_gradient(as_is(Embedding{}),
                   {random_tensor(Dtype::f64, {5, 3}, 1), random_ids({2, 7}, 5, 2)}, {0});
}

TEST(Embedding, GradientIsInTheAccumulatorDtype) {
    Graph graph;
    Builder b(graph);
    const Value table = b.input("table", {Dtype::bf16, {5, 3}});
    const Value ids = b.input("ids", {Dtype::i32, {4}});
    const Op op = Embedding{};
    const Values y = b.emit(op, {table, ids});
    const Values gradients = rules_of(op).vjp(b, op, {table, ids}, y, y);
    EXPECT_EQ(b.type(gradients[0]), (Type{Dtype::f32, {5, 3}}));
    EXPECT_FALSE(bool(gradients[1]));
}

TEST(Embedding, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(Embedding{}), {{Dtype::f32, {3, 2}}, {Dtype::i64, {4}}}),
              "embedding: operand 1 must be unscaled i32, got i64[4]");
    EXPECT_EQ(refusal(as_is(Embedding{}), {{Dtype::f32, {3}}, {Dtype::i32, {4}}}),
              "embedding: operand 0 must have 2 dimensions, got f32[3]");
}

TEST(Embedding, NegativeIdsGiveZeros) {
    const HostTensor table = tensor(Dtype::f32, {2, 2}, {1, 2, 3, 4});
    const auto y = run(as_is(Embedding{}), {table, tensor(Dtype::i32, {3}, {1, -1, 0})})[0];
    EXPECT_EQ(y.values, (std::vector<double>{3, 4, 0, 0, 1, 2}));
}

}  // namespace
}  // namespace octavo::test
