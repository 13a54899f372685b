#include "ops/kernel_test.h"
#include "ops/plain_test.h"

namespace octavo::test {
namespace {

double amax(const HostTensor& x) { return run(as_is(Amax{}), {x})[0].values[0]; }

TEST(Amax, IsTheLargestMagnitude) {
    for (Dtype d : kPlainDtypes) {
        for (std::int64_t n : {1, 7, 333, 70001}) {
            const HostTensor x = random_tensor(d, {n}, 5);
            double want = 0;
            for (double v : x.values) want = std::max(want, std::abs(v));
            EXPECT_EQ(amax(x), static_cast<float>(want)) << name(d) << " " << n;
        }
    }
}

TEST(Amax, OfCodesUnderAScale) {
    for (const Dtype d : {Dtype::f16, Dtype::e4m3, Dtype::e5m2}) {
        for (const std::int64_t n : {0, 1, 333, 70001}) {
            const HostTensor x = scaled_tensor(d, {n}, 5, 0.3f);
            float want = 0;
            for (double v : x.values) want = std::max(want, static_cast<float>(std::abs(v)));
            EXPECT_EQ(amax(x), want) << name(d) << " " << n;
        }
    }
}

TEST(Amax, FindsTheMaximumAnywhere) {
    for (std::size_t at : {0, 1, 29999, 65535, 99998}) {
        std::vector<double> values(99999, 0.5);
        values[at] = -3.0;
        const HostTensor x = vector(Dtype::bf16, values);
        EXPECT_EQ(amax(x), 3.0) << at;
        expect_same_on_any_threads(as_is(Amax{}), {x});
    }
}

TEST(Amax, OfNothingAndOfZerosIsZero) {
    for (Dtype d : kPlainDtypes) {
        EXPECT_EQ(amax(vector(d, {})), 0.0);
        EXPECT_EQ(amax(vector(d, {-0.0, 0.0, -0.0})), 0.0);
        EXPECT_FALSE(std::signbit(amax(vector(d, {-0.0}))));
    }
    EXPECT_EQ(amax(tensor(Dtype::f32, {4, 0, 3}, {})), 0.0);
}

TEST(Amax, KeepsSubnormals) {
    EXPECT_EQ(amax(vector(Dtype::f32, {0x1p-149, -0x1p-148})), 0x1p-148);
    EXPECT_EQ(amax(vector(Dtype::f16, {-0x1p-24})), 0x1p-24);
}

TEST(Amax, ShowsInfinityAndNaN) {
    for (Dtype d : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
        EXPECT_EQ(amax(vector(d, {1, -kInf, 2})), kInf) << name(d);
        for (double nan : {kNan, -kNan}) {
            EXPECT_TRUE(std::isnan(amax(vector(d, {nan, 1, 2})))) << name(d);
            EXPECT_TRUE(std::isnan(amax(vector(d, {kInf, nan, 2})))) << name(d);
        }
    }
    EXPECT_TRUE(std::isnan(amax(vector(Dtype::f16, {1, kNan}))));
    EXPECT_EQ(amax(vector(Dtype::f64, {1e300, 1})), kInf);
}

TEST(Amax, RefusesFinerScales) {
    EXPECT_EQ(
        refusal(as_is(Amax{}), {{Dtype::e4m3, {8}, {Granularity::row}}}),
        "amax: operand 0 must be an unscaled f64, f32, bf16 or f16 tensor, got e4m3[8] x row");
}

}  // namespace
}  // namespace octavo::test
