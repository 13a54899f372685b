#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Rsqrt, MatchesTheOracle) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            HostTensor x = random_tensor(dtype, shape, 1);
            for (double& v : x.values) v = std::abs(v);
            x = tensor(dtype, shape, x.values);
            std::vector<double> want;
            for (const double v : x.values) want.push_back(1 / std::sqrt(v));
            expect_each(run(as_is(Rsqrt{}), {x})[0], want, tolerance(dtype, 2));
            expect_same_in_place(Rsqrt{}, {x});
        }
    }
}

TEST(Rsqrt, Edges) {
    const std::vector<double> x = {0, 0x1p-148, 0x1p126, kInf, -1, kNan};
    expect_close(run(as_is(Rsqrt{}), {vector(Dtype::f32, x)})[0],
                 {kInf, 0x1p74, 0x1p-63, 0, kNan, kNan}, 0, 0);
    // What f16 has no infinity for in casts.
    EXPECT_EQ(run(as_is(Rsqrt{}), {vector(Dtype::f16, {0})})[0].values[0], 65504);
}

TEST(Rsqrt, Gradient) {
    const HostTensor x = tensor(Dtype::f64, {2, 3}, {0.25, 1, 2, 3, 10, 0.7});
    check_gradient(as_is(Rsqrt{}), {x}, {0});
    const auto with_exponent = [](Builder& b, const Values& in) {
        return differentiate(b, b.one(Rsqrt{1}, in), in);
    };
    EXPECT_EQ(refusal(with_exponent, {{Dtype::f32, {1}}}), "rsqrt: no gradient with an exponent");
}

}  // namespace
}  // namespace octavo::test
