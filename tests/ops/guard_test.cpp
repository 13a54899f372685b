#include "ops/plain_test.h"

namespace octavo::test {
namespace {

double guard(const std::vector<HostTensor>& in) { return run(as_is(Guard{}), in)[0].values[0]; }

TEST(Guard, IsOneOfFiniteNumbers) {
    const double largest = std::numeric_limits<float>::max();
    EXPECT_EQ(guard({scalar(0)}), 1);
    EXPECT_EQ(guard({scalar(-largest), tensor(Dtype::f32, {3}, {largest, -0.0, 0x1p-149})}), 1);
    EXPECT_EQ(guard({tensor(Dtype::f32, {0, 7}, {})}), 1);
}

// Wherever it is, among more operands than one launch of a GPU takes.
TEST(Guard, IsNanIfAnythingIsNotFinite) {
    for (const double bad : {kInf, -kInf, kNan}) {
        EXPECT_TRUE(std::isnan(guard({scalar(bad)})));
        for (const std::size_t at : {0, 127, 128, 299}) {
            std::vector<HostTensor> in;
            for (std::size_t i = 0; i < 300; ++i) {
                std::vector<double> values(16 + i, 1);
                if (i == at) values.back() = bad;
                in.push_back(tensor(Dtype::f32, {std::ssize(values)}, values));
            }
            EXPECT_TRUE(std::isnan(guard(in))) << at;
        }
    }
}

TEST(Guard, RefusesOtherTypes) {
    EXPECT_EQ(refusal(as_is(Guard{}), {{Dtype::f32, {2}}, {Dtype::bf16, {1}}}),
              "guard: operand 1 must be unscaled f32, got bf16[1]");
    EXPECT_EQ(refusal(as_is(Guard{}), {}), "guard takes one operand or more, got none");
}

}  // namespace
}  // namespace octavo::test
