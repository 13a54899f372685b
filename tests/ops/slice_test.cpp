#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Slice, CopiesColumns) {
    for (Dtype dtype : kPlainDtypes) {
        const HostTensor x = tensor(dtype, {2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
        EXPECT_EQ(run(as_is(Slice{1, 3}), {x})[0].values, (std::vector<double>{2, 3, 6, 7}));
        EXPECT_EQ(run(as_is(Slice{3, 4}), {x})[0].values, (std::vector<double>{4, 8}));
        EXPECT_EQ(run(as_is(Slice{0, 4}), {x})[0].values, x.values);
        EXPECT_EQ(run(as_is(Slice{2, 2}), {x})[0].type, (Type{dtype, {2, 0}}));
    }
    EXPECT_EQ(run(as_is(Slice{1, 2}), {tensor(Dtype::f32, {0, 4}, {})})[0].type.shape,
              (Shape{0, 1}));
}

TEST(Slice, Gradient) {
    const HostTensor x = random_tensor(Dtype::f64, {2, 3, 6}, 1);
    for (const Slice& op : {Slice{0, 2}, Slice{2, 5}, Slice{4, 6}, Slice{0, 6}}) {
        SCOPED_TRACE(fmt::format("[{}, {})", op.begin, op.end));
        check_gradient(as_is(op), {x}, {0});
    }
}

TEST(Slice, GradientsOfSlicesAddUp) {
    const Build split = [](Builder& b, const Values& in) {
        return Values{b.one(Slice{0, 2}, {in[0]}), b.one(Slice{2, 4}, {in[0]}),
                      b.one(Slice{1, 6}, {in[0]})};
    };
    check_gradient(split, {random_tensor(Dtype::f64, {3, 6}, 1)}, {0});
}

TEST(Slice, RefusesColumnsThatAreNotThere) {
    const std::vector<Type> in = {{Dtype::f32, {2, 4}}};
    EXPECT_EQ(refusal(as_is(Slice{1, 5}), in),
              "slice: [1, 5) must lie within the last dimension, got f32[2, 4]");
    EXPECT_EQ(refusal(as_is(Slice{-1, 2}), in),
              "slice: [-1, 2) must lie within the last dimension, got f32[2, 4]");
    EXPECT_EQ(refusal(as_is(Slice{3, 2}), in),
              "slice: [3, 2) must lie within the last dimension, got f32[2, 4]");
    EXPECT_EQ(refusal(as_is(Slice{0, 1}), {{}}),
              "slice: [0, 1) must lie within the last dimension, got f32[]");
}

}  // namespace
}  // namespace octavo::test
