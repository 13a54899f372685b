#include "train/inspect_swiglu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "io/safetensors.h"
#include "io/scratch.h"
#include "train/golden.h"

namespace octavo {
namespace {

TEST(Alignment, OfKnownDirections) {
    // Parallel, opposite and twice as long, at 60 degrees, and nothing at all.
    const std::vector<float> gate = {1, 0, 3, 4, 2, 0, 1, 1};
    const std::vector<float> up = {2, 0, -3, -4, 0.5f, std::sqrt(0.75f), 0, 0};
    const ChannelWeights w = channel_weights(gate, up, 2);
    ASSERT_EQ(w.cos.size(), 4u);
    EXPECT_NEAR(w.cos[1], -1, 1e-7);
    EXPECT_NEAR(w.cos[2], 0.5, 1e-6);
    EXPECT_EQ(w.cos[3], 0);
    EXPECT_EQ(w.gate_norm[1], 5);
    EXPECT_EQ(w.up_norm[0], 2);
    const Alignment a = alignment(w);
    EXPECT_NEAR(a.cos_max, 1, 1e-7);
    EXPECT_NEAR(a.cos_p99, 1, 1e-7);
    EXPECT_NEAR(a.cos_p50, 0.5, 1e-6);
    EXPECT_NEAR(a.gate_norm_max, 5, 1e-7);
    EXPECT_NEAR(a.up_norm_max, 5, 1e-7);
    EXPECT_NEAR(a.norm_ratio, 1, 1e-7);  // of 0.5, 1 and 2
}

TEST(Alignment, OfIndependentDirections) {
    constexpr std::size_t kChannels = 2000, kFeatures = 256;
    std::vector<float> gate(kChannels * kFeatures), up(gate.size());
    for (std::size_t i = 0; i < gate.size(); ++i) {
        gate[i] = Rng(1, 1).normal(i);
        up[i] = Rng(1, 2).normal(i);
    }
    const Alignment a = alignment(channel_weights(gate, up, kFeatures));
    // Normal with a standard deviation of 1/16: its quartile and its half per cent.
    EXPECT_NEAR(a.cos_p50, 0.6745 / 16, 0.003);
    EXPECT_NEAR(a.cos_p99, 2.576 / 16, 0.02);
}

TEST(Alignment, OfAModelOnDisk) {
    const auto layers = inspect_swiglu(test::fixture("llama"));
    ASSERT_EQ(layers.size(), 2u);
    EXPECT_EQ(layers[0].layer, "model.layers.0.mlp");
    EXPECT_EQ(layers[1].layer, "model.layers.1.mlp");
    for (const ChannelWeights& w : layers) {
        const Alignment a = alignment(w);
        EXPECT_GT(a.cos_p50, 0);
        EXPECT_LE(a.cos_p50, a.cos_p99);
        EXPECT_LE(a.cos_p99, a.cos_max);
        EXPECT_LE(a.cos_max, 1 + 1e-12);
    }
    EXPECT_TRUE(contains(error_of([] { inspect_swiglu(test::fixture("gpt2")); }),
                         "expected weights '*.gate_proj.weight', got none"));
}

TEST(Alignment, ChannelsGoIntoAFile) {
    const Scratch scratch;
    const std::vector<ChannelWeights> layers = inspect_swiglu(test::fixture("llama"));
    const std::vector<float> factors(layers[1].cos.size(), 0.5f);
    write_channels(scratch / "channels.safetensors", layers, {{layers[1].layer, factors}});
    const SafetensorsFile file(scratch / "channels.safetensors");
    EXPECT_EQ(file.entries().size(), 7u);  // of the first layer no factors are known
    const auto values = [&](const std::string& name) {
        const TensorInfo t = file.at(name);
        std::vector<float> v(static_cast<std::size_t>(t.shape.elements()));
        std::ranges::copy(t.bytes, std::as_writable_bytes(std::span(v)).begin());
        return v;
    };
    const auto rounded = [](const std::vector<double>& v) {
        return std::vector<float>(v.begin(), v.end());
    };
    for (const ChannelWeights& w : layers) {
        EXPECT_EQ(values(w.layer + ".cos"), rounded(w.cos));
        EXPECT_EQ(values(w.layer + ".gate_norm"), rounded(w.gate_norm));
        EXPECT_EQ(values(w.layer + ".up_norm"), rounded(w.up_norm));
    }
    EXPECT_EQ(values(layers[1].layer + ".factor"), factors);
}

}  // namespace
}  // namespace octavo
