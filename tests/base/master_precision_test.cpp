// What becomes of steps that are smaller than a weight's quantum: why masters are kept in f16 under
// a power of two, and gradients are summed in 16 bits or more (arXiv 2310.18313).
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/convert.h"
#include "base/rng.h"
#include "base/scale_rule.h"

namespace octavo {
namespace {

float round_through(float x, Dtype dtype, const Scale& scale) {
    std::byte code[4];
    float y = 0;
    quantise(&x, Dtype::f32, scale.inv_scale, code, dtype, 1);
    dequantise(code, dtype, scale.scale, &y, Dtype::f32, 1);
    return y;
}

std::vector<float> weights(std::size_t n) {
    std::vector<float> w(n);
    for (std::size_t i = 0; i < n; ++i) w[i] = 0.02f * Rng(1, 0).normal(i);
    return w;
}

// The same step, a hundred times over: the share of it that arrives.
double share_kept(Dtype dtype, float step) {
    std::vector<float> w = weights(20000);
    const float top = amax(w.data(), Dtype::f32, std::ssize(w));
    const Scale scale =
        dtype == Dtype::bf16 ? Scale{} : next_scale(top, dtype, kMasterRounding, 0, {});
    for (float& x : w) x = round_through(x, dtype, scale);
    double drift = 0;
    for (float x : w) {
        const float start = x;
        for (int i = 0; i < 100; ++i) x = round_through(x + step, dtype, scale);
        drift += static_cast<double>(x - start);
    }
    return drift / (100.0 * step * static_cast<double>(w.size()));
}

TEST(MasterPrecision, ShareOfSmallStepsThatArrives) {
    struct Case {
        Dtype dtype;
        double kept[3];  // of 3e-4, 3e-5, 3e-6
    };
    const Case cases[] = {{Dtype::f16, {1.01, 1.01, 0.36}},
                          {Dtype::bf16, {0.90, 0.28, 0.04}},
                          {Dtype::e4m3, {0.08, 0.003, 0.001}}};
    for (const Case& c : cases) {
        const float steps[] = {3e-4f, 3e-5f, 3e-6f};
        for (int i = 0; i < 3; ++i) {
            EXPECT_NEAR(share_kept(c.dtype, steps[i]), c.kept[i], 0.03)
                << name(c.dtype) << " " << steps[i];
        }
    }
}

// One weight grows, the others have no gradient. Under a power of two they stay bit for bit; under
// the scale that puts the largest on the top code they would grow with it.
TEST(MasterPrecision, ExactScalesDragWeightsAlong) {
    const auto growth_of_the_others = [](ScaleRounding rounding) {
        std::vector<float> w = weights(1000);
        w[0] = 0.1f;
        Scale scale;
        const auto round_all = [&] {
            const float top = amax(w.data(), Dtype::f32, std::ssize(w));
            scale = next_scale(top, Dtype::f16, rounding, 0, scale);
            for (float& x : w) x = round_through(x, Dtype::f16, scale);
        };
        round_all();
        const std::vector<float> start = w;
        for (int step = 0; step < 1000; ++step) {
            w[0] += 1e-5f;
            round_all();
        }
        double growth = 0;
        for (std::size_t i = 1; i < w.size(); ++i) {
            growth += std::abs(static_cast<double>(w[i] / start[i]) - 1) / 999;
        }
        return growth;
    };
    EXPECT_EQ(growth_of_the_others(ScaleRounding::pow2), 0);
    EXPECT_GT(growth_of_the_others(ScaleRounding::exact), 0.05);  // the largest grew by a tenth
}

// Gradients of many micro-batches must not be added up in 8 bits.
TEST(MasterPrecision, SumsIn8BitsStall) {
    const auto sum = [](Dtype dtype, bool fresh_scales) {
        float x = 0;
        for (int i = 0; i < 200; ++i) {
            const Scale scale =
                fresh_scales ? next_scale(x + 1, dtype, ScaleRounding::pow2, 0, {}) : Scale{};
            x = round_through(x + 1, dtype, scale);
        }
        return x;
    };
    EXPECT_EQ(sum(Dtype::e4m3, false), 16);
    EXPECT_EQ(sum(Dtype::e5m2, false), 8);
    EXPECT_EQ(sum(Dtype::e4m3, true), 16);
    EXPECT_EQ(sum(Dtype::f32, false), 200);
}

}  // namespace
}  // namespace octavo
