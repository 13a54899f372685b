#include "train/export_folded.h"

#include "io/safetensors.h"
#include "io/scratch.h"
#include "io/token_file_writer.h"
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
    fold_channels(up_values, down_values, s);
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

TEST(ExportFolded, KeepsTheModelAndEvensItsChannels) {
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
    const ExportRequest request{.model = model,
                                .tokens = scratch / "tokens.bin",
                                .out = scratch / "folded",
                                .batches = 3,
                                .batch = 2,
                                .seq = 16};
    const auto layers = export_folded(request, *backend);
    ASSERT_EQ(layers.size(), 2u);
    const SafetensorsModel before(model), after(request.out);
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
    EXPECT_EQ(loss(request.out), loss(model));
    ExportRequest again = request;
    again.model = request.out;
    again.out = scratch / "twice";
    for (const FoldedLayer& l : export_folded(again, *backend)) {
        EXPECT_EQ(l.least, 1) << l.layer;
        EXPECT_EQ(l.most, 1) << l.layer;
    }
    EXPECT_TRUE(
        contains(error_of([&] { export_folded(request, *backend); }), "it is there already"));
    again.out = scratch / "never";
    again.seq = 1 << 20;
    EXPECT_TRUE(contains(error_of([&] { export_folded(again, *backend); }), "longer than"));
    again = request;
    again.out = scratch / "never";
    again.model = test::fixture("gpt2");
    EXPECT_TRUE(contains(error_of([&] { export_folded(again, *backend); }),
                         "expected a model with SwiGLU, got none"));
    EXPECT_FALSE(std::filesystem::exists(again.out));
}

}  // namespace
}  // namespace octavo
