#include "ops/plain_test.h"

namespace octavo::test {
namespace {

TEST(Sqrt, MatchesTheOracle) {
    for (const Dtype dtype : kPlainDtypes) {
        for (const Shape& shape : kShapes) {
            SCOPED_TRACE(to_string(Type{dtype, shape}));
            HostTensor x = random_tensor(dtype, shape, 1);
            for (double& v : x.values) v = std::abs(v);
            x = tensor(dtype, shape, x.values);
            std::vector<double> want;
            for (const double v : x.values) want.push_back(std::sqrt(v));
            expect_each(run(as_is(Sqrt{}), {x})[0], want, tolerance(dtype, 1));
            expect_same_in_place(Sqrt{}, {x});
        }
    }
}

TEST(Sqrt, Edges) {
    const std::vector<double> x = {0, 0x1p-149, 0x1p-126, kInf, -1, -kInf, kNan};
    const auto y = run(as_is(Sqrt{}), {vector(Dtype::f32, x)})[0];
    expect_each(tensor(Dtype::f32, {3}, {y.values[0], y.values[1], y.values[2]}),
                {0, std::sqrt(0x1p-149), 0x1p-63}, 0x1p-23);
    expect_close(y, {0, y.values[1], 0x1p-63, kInf, kNan, kNan, kNan}, 0, 0);
}

TEST(Sqrt, Gradient) {
    const HostTensor x = tensor(Dtype::f64, {2, 3}, {0.25, 1, 2, 3, 10, 0.7});
    check_gradient(as_is(Sqrt{}), {x}, {0});
    const auto with_exponent = [](Builder& b, const Values& in) {
        return differentiate(b, b.one(Sqrt{1}, in), in);
    };
    EXPECT_EQ(refusal(with_exponent, {{Dtype::f32, {1}}}), "sqrt: no gradient with an exponent");
}

}  // namespace
}  // namespace octavo::test
