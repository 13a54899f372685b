#include "train/channel_factors.h"

#include <cmath>
#include <cstdlib>

#include "base/float16.h"
#include "io/safetensors.h"
#include "io/scratch.h"
#include "io/token_file_writer.h"
#include "models/convert_model.h"
#include "models/random_model.h"
#include "models/stored_weights.h"
#include "models/weights.h"
#include "ops/op_test.h"
#include "train/checkpoint.h"
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

// In dB, of all of W_up and of the row that has least: what a form keeps of folded weights.
struct Kept {
    double all = 0, worst_row = 0;
};

constexpr std::int64_t kHidden = 256, kChannels = 512;

// Rows of normal weights, folded by factors of powers of two from 1 to 2^spread in no order.
Kept kept_after_fold(WeightForm form, int spread, bool limited) {
    Scratch scratch;
    const Architecture arch{.family = Family::llama,
                            .vocab_size = 40,
                            .hidden_size = kHidden,
                            .layers = 1,
                            .heads = 2,
                            .kv_heads = 2,
                            .head_dim = 128,
                            .intermediate_size = kChannels,
                            .max_positions = 16};
    const std::string layer = "model.layers.0.mlp", weight = layer + ".up_proj.weight";
    std::vector<float> up;
    test::write_random_model(scratch / "model", arch,
                             [&](const std::string& name, const Shape&, std::span<float> x) {
                                 if (!name.ends_with("_proj.weight")) return;
                                 for (std::size_t i = 0; i < x.size(); ++i) {
                                     x[i] = static_cast<float>(bf16(Rng(7, 1).normal(i)));
                                 }
                                 if (name == weight) up.assign(x.begin(), x.end());
                             });
    ChannelFactors factors;
    for (std::uint64_t i = 0; i < kChannels; ++i) {
        const auto exponent = Rng(7, 2).bits64(i) % static_cast<std::uint64_t>(spread + 1);
        factors[layer].push_back(std::ldexp(1.0f, static_cast<int>(exponent)));
    }
    const std::size_t raised = limited ? limit_spread(factors) : 0;
    EXPECT_EQ(raised > 0, limited && spread > 10);
    convert_model({.model = scratch / "model",
                   .out = scratch / "out",
                   .form = form,
                   .edit = [&](const std::string& name, std::span<float> values) {
                       fold_channels(factors, name, values);
                   }});
    std::vector<float> got(up.size());
    StoredWeights(scratch / "out").find(weight)->read(got);
    const auto decibels = [](double signal, double noise) {
        return noise > 0 ? 10 * std::log10(signal / noise) : 1000;
    };
    Kept kept{.worst_row = 1000};
    double all_signal = 0, all_noise = 0;
    for (std::size_t row = 0; row < kChannels; ++row) {
        double signal = 0, noise = 0;
        for (std::size_t i = row * kHidden; i < (row + 1) * kHidden; ++i) {
            const double x = double{up[i]} / double{factors[layer][row]};
            signal += x * x;
            noise += (x - double{got[i]}) * (x - double{got[i]});
        }
        kept.worst_row = std::min(kept.worst_row, decibels(signal, noise));
        all_signal += signal;
        all_noise += noise;
    }
    kept.all = decibels(all_signal, all_noise);
    return kept;
}

TEST(FoldChannels, IsExactInEveryWideForm) {
    for (const WeightForm form : {WeightForm::f32, WeightForm::bf16}) {
        EXPECT_EQ(kept_after_fold(form, 24, false).worst_row, 1000);
    }
}

// E4M3 has 31.5 dB of normal weights while they are in its normal numbers. Rows under one scale of
// a block or tensor leave them where factors spread too far.
TEST(FoldChannels, KeepsRowsOfUpInEightBits) {
    for (const WeightForm form : {WeightForm::fp8, WeightForm::fp8_tensor}) {
        SCOPED_TRACE(name(form));
        const double unspread = kept_after_fold(form, 0, false).worst_row;
        EXPECT_GT(unspread, 30);
        for (const int spread : {10, 12, 14, 16, 20}) {
            const Kept whole = kept_after_fold(form, spread, false);
            const Kept limited = kept_after_fold(form, spread, true);
            if (std::getenv("OCTAVO_TABLES")) {
                fmt::print("{} 2^{}: {:.1f} {:.1f}, limited {:.1f} {:.1f}\n", name(form), spread,
                           whole.all, whole.worst_row, limited.all, limited.worst_row);
            }
            // What counts most has its precision in any case, which is why the whole tells nothing.
            EXPECT_GT(whole.all, 31);
            EXPECT_GT(limited.all, 31);
            EXPECT_GT(limited.worst_row, unspread - 0.5);
            if (spread <= 10) {
                EXPECT_EQ(whole.worst_row, limited.worst_row);
            }
            if (spread >= 16) {
                EXPECT_LT(whole.worst_row, 12);
            }
            if (spread >= 20) {
                EXPECT_LT(whole.worst_row, 1);
            }
        }
    }
}

// Powers of two, so that weights stay what they are but for their range.
void multiply_channels(test::Session& s, float factor) {
    for (const char* layer : {"model.layers.0.mlp", "model.layers.1.mlp"}) {
        const std::string up = std::string(layer) + ".up_proj.weight";
        std::vector<float> values = read_values(s.state(), up);
        for (float& x : values) x *= factor;
        write_values(s.state(), up, values);
    }
    s.program.refresh();
}

// The first window's channels reach far further than those of all that follow, so what is left of
// it would show.
TEST(ChannelFactors, OfACheckpointAreThoseOfItsLastSteps) {
    StepOptions o = test::tiny_options(Family::llama, "smooth-swiglu");
    o.measure = true;
    o.recipe.smooth->axis = Axis::column;
    o.recipe.smooth->export_window = 3;
    for (const bool step_before : {false, true}) {
        SCOPED_TRACE(step_before);
        o.recipe.smooth->step_before = step_before;
        StepOptions plain = o;
        plain.recipe.smooth->export_window = 0;
        test::Session s(o, /*accumulates=*/true), without(plain, /*accumulates=*/true);
        std::vector<ChannelFactors> steps{{}};
        for (int step = 1; step <= 8; ++step) {
            for (test::Session* session : {&s, &without}) {
                if (step == 1) multiply_channels(*session, 256);
                if (step == 4) multiply_channels(*session, 1.0f / 256);
            }
            const auto first = test::random_batch(o, static_cast<std::uint64_t>(2 * step));
            const auto next = test::random_batch(o, static_cast<std::uint64_t>(2 * step + 1));
            ChannelFactors& all = steps.emplace_back();
            const auto note = [&](const std::vector<SwiGluRange>& swiglus) {
                for (const SwiGluRange& r : swiglus) {
                    auto& most = all[r.label];
                    most.resize(r.factors.size());
                    for (std::size_t i = 0; i < most.size(); ++i) {
                        most[i] = std::max(most[i], r.factors[i]);
                    }
                }
            };
            // Measured alone first: the factors of both micro-batches. With factors that are given
            // State has them as those of the next step.
            const auto measured = [&](const test::TokenBatch& batch) {
                const float weight = 1 / static_cast<float>(batch.ids.size());
                return without.program.measured_micro(batch.ids, batch.targets, weight).swiglus;
            };
            if (!step_before) {
                note(measured(first));
                note(measured(next));
            }
            for (test::Session* session : {&s, &without}) {
                session->micro(first);
                session->micro(next, false);
                session->program.update(3e-2, step);
            }
            if (step_before) {
                for (const char* layer : {"model.layers.0.mlp", "model.layers.1.mlp"}) {
                    all[layer] = read_values(
                        s.state(), smooth_factor_name(std::string(layer) + ".down_proj.weight"));
                }
            }
        }
        const std::string down = "model.layers.1.mlp.down_proj.weight";
        EXPECT_EQ(read_values(s.state(), down), read_values(without.state(), down));

        // Steps 7 and 8, and the window of 4 to 6 before them.
        Scratch scratch;
        CheckpointInfo info;
        info.step = 8;
        const auto folder = save_checkpoint(scratch / "with", s.state(), info, {});
        const ChannelFactors kept = kept_channels(folder);
        ASSERT_EQ(kept.size(), 2u);
        for (const auto& [layer, factors] : kept) {
            std::vector<float> want(factors.size()), ever(factors.size());
            for (std::size_t step = 1; step <= 8; ++step) {
                for (std::size_t i = 0; i < want.size(); ++i) {
                    const float f = steps[step].at(layer)[i];
                    ever[i] = std::max(ever[i], f);
                    if (step >= 4) want[i] = std::max(want[i], f);
                }
            }
            EXPECT_EQ(factors, want) << layer;
            EXPECT_NE(factors, ever) << layer << ": no window has passed";
        }
        const auto other = save_checkpoint(scratch / "other", without.state(), info, {});
        EXPECT_TRUE(kept_channels(other).empty());
    }
}

}  // namespace
}  // namespace octavo
