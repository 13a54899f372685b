#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(KvWrite, WritesRowsAtTheirPositions) {
    for (Dtype dtype : kPlainDtypes) {
        const Shape cache_shape{2, 5, 2, 3}, new_shape{2, 3, 2, 3};
        const std::vector<HostTensor> in = {random_tensor(dtype, cache_shape, 1),
                                            random_tensor(dtype, new_shape, 2),
                                            tensor(Dtype::i32, {2, 3}, {1, 2, 3, 4, -1, 0})};
        std::vector<double> want = in[0].values;
        for (std::size_t token = 0; token < 6; ++token) {
            const double position = in[2].values[token];
            if (position < 0) continue;
            const std::size_t to = (token / 3 * 5 + static_cast<std::size_t>(position)) * 6;
            for (std::size_t i = 0; i < 6; ++i) want[to + i] = in[1].values[token * 6 + i];
        }
        EXPECT_EQ(run(as_is(KvWrite{}), in)[0].values, want);
        expect_same_in_place(KvWrite{}, in);
    }
}

TEST(KvWrite, IgnoresPositionsOutsideTheCache) {
    const HostTensor cache = random_tensor(Dtype::f32, {1, 2, 1, 2}, 1);
    const auto y = run(as_is(KvWrite{}), {cache, random_tensor(Dtype::f32, {1, 3, 1, 2}, 2),
                                          tensor(Dtype::i32, {1, 3}, {-1, 2, 2147483647})})[0];
    expect_identical(y, cache);
}

TEST(KvWrite, LastOfEqualPositionsCounts) {
    const auto y = run(as_is(KvWrite{}), {tensor(Dtype::f32, {1, 1, 1, 1}, {0}),
                                          tensor(Dtype::f32, {1, 2, 1, 1}, {7, 8}),
                                          tensor(Dtype::i32, {1, 2}, {0, 0})})[0];
    EXPECT_EQ(y.values[0], 8);
}

TEST(KvWrite, NothingNew) {
    const HostTensor cache = random_tensor(Dtype::bf16, {2, 3, 1, 2}, 1);
    expect_identical(run(as_is(KvWrite{}), {cache, tensor(Dtype::bf16, {2, 0, 1, 2}, {}),
                                            tensor(Dtype::i32, {2, 0}, {})})[0],
                     cache);
}

TEST(KvWrite, RefusesOtherTypes) {
    const Type cache{Dtype::bf16, {2, 5, 2, 4}};
    EXPECT_EQ(refusal(as_is(KvWrite{}), {cache, {Dtype::bf16, {2, 1, 1, 4}}, {Dtype::i32, {2, 1}}}),
              "kv_write: operand 1 must have shape [2, 1, 2, 4], got bf16[2, 1, 1, 4]");
    EXPECT_EQ(refusal(as_is(KvWrite{}), {cache, {Dtype::f32, {2, 1, 2, 4}}, {Dtype::i32, {2, 1}}}),
              "kv_write: operand 1 must be unscaled bf16, got f32[2, 1, 2, 4]");
    EXPECT_EQ(refusal(as_is(KvWrite{}), {cache, {Dtype::bf16, {2, 1, 2, 4}}, {Dtype::i32, {1, 2}}}),
              "kv_write: operand 2 must have shape [2, 1], got i32[1, 2]");
}

}  // namespace
}  // namespace octavo::test
