#include "train/channel_factors.h"

#include "io/safetensors.h"
#include "io/scratch.h"
#include "io/token_file_writer.h"
#include "models/convert_model.h"
#include "models/weights.h"
#include "ops/op_test.h"
#include "train/golden.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::HostTensor;

HostTensor rounded(Dtype dtype, const Shape& shape, std::span<const float> x) {
    return test::tensor(dtype, shape, std::vector<double>(x.begin(), x.end()));
}

// Powers of two change no significand of bf16 weights, and not one bit of what a plain SwiGLU
// computes with them in f32.
TEST(FoldChannels, IsExact) {
    constexpr std::int64_t kChannels = 48, kFeatures = 32, kTokens = 20;
    const auto weight = [](const Shape& shape, std::uint64_t seed) {
        return test::random_tensor(Dtype::bf16, shape, seed);
    };
    const HostTensor x = test::random_tensor(Dtype::f32, {kTokens, kFeatures}, 1);
    const HostTensor gate = weight({kChannels, kFeatures}, 2), up = weight(gate.type.shape, 3);
    const HostTensor down = weight({kFeatures, kChannels}, 4);
    std::vector<float> up_values(up.values.begin(), up.values.end());
    std::vector<float> down_values(down.values.begin(), down.values.end());
    std::vector<float> s;
    for (int i = 0; i < kChannels; ++i) s.push_back(std::ldexp(1.0f, i % 17 - 8));
    const ChannelFactors factors{{"mlp", s}};
    fold_channels(factors, "mlp.up_proj.weight", up_values);
    fold_channels(factors, "mlp.down_proj.weight", down_values);
    std::vector<float> other{1, 2, 3};
    for (const char* name : {"mlp.gate_proj.weight", "other.up_proj.weight", "up_proj.weight"}) {
        fold_channels(factors, name, other);
    }
    EXPECT_EQ(other, (std::vector<float>{1, 2, 3}));
    std::vector<float> small{0x1.fffffep-126f};
    EXPECT_TRUE(
        contains(error_of([&] { fold_channels({{"mlp", {8.0f}}}, "mlp.up_proj.weight", small); }),
                 "'mlp.up_proj.weight': a channel's factor of 0.125 would cut bits off"));
    EXPECT_EQ(up_values[5 * kFeatures + 3],
              static_cast<float>(up.values[5 * kFeatures + 3]) / s[5]);
    EXPECT_EQ(down_values[3 * kChannels + 5],
              static_cast<float>(down.values[3 * kChannels + 5]) * s[5]);

    const HostTensor up2 = rounded(Dtype::bf16, up.type.shape, up_values);
    const HostTensor down2 = rounded(Dtype::bf16, down.type.shape, down_values);
    for (std::size_t i = 0; i < up_values.size(); ++i) {
        ASSERT_EQ(up2.values[i], double{up_values[i]});
        ASSERT_EQ(down2.values[i], double{down_values[i]});
    }
    const auto output = [&](const HostTensor& u, const HostTensor& d) {
        return test::run(
            [](Builder& b, const Values& in) {
                const auto linear = [&](Value v, Value w) {
                    return b.linear(v, b.cast(w, Dtype::f32));
                };
                const Value a = linear(in[0], in[1]), c = linear(in[0], in[2]);
                return Values{linear(b.one(SwiGlu{}, {a, c}), in[3])};
            },
            {x, gate, u, d})[0];
    };
    EXPECT_EQ(output(up2, down2).codes, output(up, down).codes);
}

TEST(ChannelFactors, KeepTheModelAndEvenItsChannels) {
    Scratch scratch;
    const auto model = test::fixture("llama");
    const Architecture arch = read_hf_config(model);
    {
        TokenFileWriter tokens(scratch / "tokens.bin", arch.vocab_size);
        std::vector<std::int32_t> ids;
        for (std::uint64_t i = 0; i < 2000; ++i) {
            ids.push_back(static_cast<std::int32_t>(Rng(1, 1).bits64(i) %
                                                    static_cast<std::uint64_t>(arch.vocab_size)));
        }
        tokens.write(ids);
        tokens.close();
    }
    const auto backend = test::make_test_backend();
    const ChannelRequest request{
        .model = model, .tokens = scratch / "tokens.bin", .batches = 3, .batch = 2, .seq = 16};
    const ChannelFactors factors = measure_channels(request, *backend);
    ASSERT_EQ(factors.size(), 2u);
    const auto out = scratch / "folded";
    convert_model({.model = model,
                   .out = out,
                   .form = WeightForm::f32,
                   .edit = [&](const std::string& weight, std::span<float> values) {
                       fold_channels(factors, weight, values);
                   }});
    const SafetensorsModel before(model), after(out);
    EXPECT_EQ(after.names(), before.names());
    for (const std::string& name : before.names()) {
        const TensorInfo a = before.at(name), b = after.at(name);
        EXPECT_EQ(a.dtype, b.dtype);
        EXPECT_EQ(a.shape, b.shape);
        const bool changes = name.ends_with("up_proj.weight") || name.ends_with("down_proj.weight");
        EXPECT_EQ(std::ranges::equal(a.bytes, b.bytes), !changes) << name;
    }
    // Loss of one batch: the same bits; and the channels' factors are 1 now, or 1/2 where the batch
    // does not reach what was measured.
    const auto loss = [&](const std::filesystem::path& folder) {
        StepOptions o{.architecture = read_hf_config(folder),
                      .recipe = recipe_named("fp32"),
                      .batch = 2,
                      .seq = 16};
        test::Session s(o);
        load_weights(folder, s.state());
        s.program.refresh();
        return s.micro(test::random_batch(o, 3));
    };
    EXPECT_EQ(loss(out), loss(model));
    ChannelRequest again = request;
    again.model = out;
    for (const auto& [layer, s] : measure_channels(again, *backend)) {
        EXPECT_EQ(std::ranges::count(s, 1.0f), std::ssize(s)) << layer;
    }
    again.seq = 1 << 20;
    EXPECT_TRUE(contains(error_of([&] { measure_channels(again, *backend); }), "longer than"));
    again = request;
    again.model = test::fixture("gpt2");
    EXPECT_TRUE(contains(error_of([&] { measure_channels(again, *backend); }),
                         "expected a model with SwiGLU, got none"));
}

}  // namespace
}  // namespace octavo
