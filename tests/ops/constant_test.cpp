#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Constant, Fills) {
    for (Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            std::vector<double> want = ones(shape);
            for (double& x : want) x = -0.3;
            expect_identical(run(as_is(Constant{{dtype, shape}, -0.3}), {})[0],
                             tensor(dtype, shape, want));
        }
    }
}

TEST(Constant, RefusesScaledTypes) {
    EXPECT_EQ(refusal(as_is(Constant{{Dtype::e4m3, {2}, kPerTensor}, 1}), {}),
              "constant: expected an unscaled f64, f32, bf16 or f16 type, got e4m3[2] x tensor");
    EXPECT_EQ(refusal(as_is(Constant{{Dtype::i32, {2}}, 1}), {}),
              "constant: expected an unscaled f64, f32, bf16 or f16 type, got i32[2]");
}

}  // namespace
}  // namespace octavo::test
