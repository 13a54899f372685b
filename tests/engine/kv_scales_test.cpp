// Scales of a cache in FP8: where they come from, and when they change.
#include <bit>

#include "backends/cpu/cpu.h"
#include "base/float8.h"
#include "engine/engine_testing.h"
#include "engine/kv_scales.h"

namespace octavo {
namespace {

using test::generate;
using test::make_engine;
using test::random_prompt;

EngineOptions fp8_cache(KvCalibration calibration) {
    return {.context = 64,
            .max_seqs = 4,
            .max_batched_tokens = 64,
            .fp8_cache = true,
            .calibration = calibration};
}

TEST(KvScales, AreOneWithoutCalibration) {
    const auto backend = test::make_test_backend();
    const auto engine =
        make_engine(*backend, "qwen3", recipe_named("bf16"), fp8_cache(KvCalibration::none));
    (void)generate(*engine, {{.prompt = {1, 2, 3}, .max_tokens = 3}});
    for (const float scale : engine->kv_scales()) EXPECT_EQ(scale, 1);
}

TEST(KvScales, ComeFromTheFirstForwardAlone) {
    const auto backend = test::make_test_backend();
    const auto engine =
        make_engine(*backend, "qwen3", recipe_named("bf16"), fp8_cache(KvCalibration::engine));
    const TextRequest request{.prompt = random_prompt(20, 1, engine->vocabulary()),
                              .max_tokens = 9,
                              .sampling = {.temperature = 0}};
    const auto layers = static_cast<std::size_t>(read_hf_config(test::fixture("qwen3")).layers);
    const auto made = generate(*engine, {request});
    const std::vector<float> scales = engine->kv_scales();
    ASSERT_EQ(scales.size(), 3 * layers);
    for (const float scale : scales) {
        EXPECT_GT(scale, 0);
        EXPECT_NE(scale, 1);
    }
    // Other texts do not move them, new weights do, and the same text gives the same again.
    const TextRequest other{.prompt = random_prompt(33, 2, engine->vocabulary()), .max_tokens = 9};
    (void)generate(*engine, {other});
    EXPECT_EQ(engine->kv_scales(), scales);
    engine->load(test::weights_of("qwen3"));
    for (const float scale : engine->kv_scales()) EXPECT_EQ(scale, 1);
    (void)generate(*engine, {other});
    EXPECT_NE(engine->kv_scales(), scales);
    engine->load(test::weights_of("qwen3"));
    EXPECT_EQ(generate(*engine, {request}), made);
    EXPECT_EQ(engine->kv_scales(), scales);
}

// The calibrating forward has unused rows, which must not count: with a wider step there are more.
TEST(KvScales, DoNotDependOnTheWidthOfTheStep) {
    const auto backend = make_cpu_backend({.reference = true});
    std::vector<std::vector<float>> scales;
    for (const std::int64_t width : {20, 64, 128}) {
        EngineOptions options = fp8_cache(KvCalibration::engine);
        options.max_batched_tokens = width;
        const auto engine = make_engine(*backend, "qwen3", recipe_named("bf16"), options);
        (void)generate(*engine,
                       {{.prompt = random_prompt(20, 1, engine->vocabulary()), .max_tokens = 2}});
        scales.push_back(engine->kv_scales());
    }
    EXPECT_EQ(scales[0], scales[1]);
    EXPECT_EQ(scales[0], scales[2]);
}

TEST(KvScales, GivenOnesAreUsed) {
    const auto backend = test::make_test_backend();
    const auto engine =
        make_engine(*backend, "qwen3", recipe_named("bf16"), fp8_cache(KvCalibration::given));
    std::vector<float> scales = engine->kv_scales();
    for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = 0.5f / static_cast<float>(i + 1);
    engine->set_kv_scales(scales);
    const TextRequest request{.prompt = random_prompt(20, 1, engine->vocabulary()),
                              .max_tokens = 3};
    const auto made = generate(*engine, {request});
    for (std::size_t i = 0; i < scales.size(); ++i) {
        const bool q = i % 3 == 0;  // which has none here
        EXPECT_EQ(engine->kv_scales()[i], q ? 1 : scales[i]);
    }
    for (float& scale : scales) scale *= 64;
    engine->set_kv_scales(scales);
    EXPECT_NE(generate(*engine, {request})[0].logprobs, made[0].logprobs);
    // Nothing of the old scales is found, and texts of both never meet.
    EXPECT_EQ(engine->scheduler().counts().hit_tokens, 0);
    const auto id = engine->submit(request);
    EXPECT_THROW(engine->set_kv_scales(scales), Error);
    engine->cancel(id);
    // One bad scale, and none is taken.
    const std::vector<float> before = engine->kv_scales();
    for (float& scale : scales) scale *= 2;
    scales[4] = 0;
    EXPECT_THROW(engine->set_kv_scales(scales), Error);
    EXPECT_EQ(engine->kv_scales(), before);
    scales.pop_back();
    EXPECT_THROW(engine->set_kv_scales(scales), Error);
    const auto other =
        make_engine(*backend, "qwen3", recipe_named("bf16"), fp8_cache(KvCalibration::engine));
    EXPECT_THROW(other->set_kv_scales(scales), Error);
}

// Products in FP8 have a scale of q beside those of the cache.
TEST(KvScales, OfQueriesAreUsedByAttentionInFp8) {
    const auto backend = test::make_test_backend();
    EngineOptions options = fp8_cache(KvCalibration::given);
    options.fp8_attention = true;
    const auto engine = make_engine(*backend, "qwen3", recipe_named("bf16"), options);
    std::vector<float> scales(engine->kv_scales().size(), 0.02f);
    engine->set_kv_scales(scales);
    EXPECT_EQ(engine->kv_scales(), scales);
    const TextRequest request{.prompt = {1, 2, 3}, .max_tokens = 3};
    const auto made = generate(*engine, {request});
    for (std::size_t i = 0; i < scales.size(); i += 3) scales[i] *= 1.3f;
    engine->set_kv_scales(scales);
    EXPECT_NE(generate(*engine, {request})[0].logprobs, made[0].logprobs);

    options.calibration = KvCalibration::engine;
    const auto calibrated = make_engine(*backend, "qwen3", recipe_named("bf16"), options);
    (void)generate(*calibrated, {request});
    for (const float scale : calibrated->kv_scales()) EXPECT_NE(scale, 1);
}

// A trainer's: the published example, over two ranks.
TEST(KvScales, OfATrainer) {
    const float ranks[] = {calibration_amax({10, 9, 12, 11}), calibration_amax({8})};
    const float scale = calibrated_scale(ranks);
    EXPECT_EQ(scale, 0.028125f);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(scale), 0x3CE66666u);
    EXPECT_EQ(calibrated_scale(std::vector<float>{0, 0}), 1);
    // One of 502 may be anything.
    std::vector<float> maxima(502, 2);
    maxima[17] = 1000;
    EXPECT_EQ(calibration_amax(maxima), 2);
    maxima.pop_back();
    EXPECT_EQ(calibration_amax(maxima), 1000);
    EXPECT_THROW(calibration_amax({}), Error);
    EXPECT_THROW(calibration_amax({1, INFINITY}), Error);
    EXPECT_THROW(calibration_amax({std::nanf(""), 1}), Error);
    EXPECT_THROW(calibrated_scale({}), Error);
}

TEST(KvScales, ATrainersPercentileRoundsToEven) {
    const std::pair<std::int64_t, std::int64_t> known[] = {
        {1, 0}, {2, 1}, {8, 7}, {501, 500}, {502, 500}, {503, 501}, {1001, 999}, {2001, 1998}};
    for (const auto& [count, index] : known) EXPECT_EQ(calibration_index(count), index) << count;
}

// vLLM's constants put an amax at 200 or 100, which E4M3 does not have.
TEST(KvScales, OfTheEngineKeepAmaxesWithinFourPercent) {
    const struct {
        float amax;
        std::uint32_t scale;
        int code;
        double value;
    } known[] = {
        {8, 0x3D23D70A, 0x74, 7.68}, {5, 0x3CCCCCCD, 0x74, 4.80}, {3, 0x3CF5C28F, 0x6D, 3.12}};
    for (const auto& k : known) {
        const auto scale = std::bit_cast<float>(k.scale);
        const e4m3 code(k.amax * (1.0f / scale));
        EXPECT_EQ(code.bits, k.code);
        EXPECT_NEAR(static_cast<float>(code) * scale, k.value, 1e-6);
    }
}

std::string refusal(const std::string& family, const EngineOptions& options) {
    const auto backend = test::make_test_backend();
    try {
        const Engine engine(*backend, read_hf_config(test::fixture(family)), recipe_named("bf16"),
                            options);
    } catch (const Error& error) {
        return error.message();
    }
    return "accepted";
}

TEST(KvScales, AttentionInFp8NeedsACacheInFp8) {
    EXPECT_EQ(refusal("qwen3", {.context = 64, .fp8_attention = true}),
              "attention in FP8 needs keys and values in FP8");
}

// Nothing bounds the keys of a model without QK-norm.
TEST(KvScales, UnitScalesAreForModelsWithQkNorm) {
    EngineOptions options = fp8_cache(KvCalibration::none);
    EXPECT_EQ(refusal("qwen3", options), "accepted");
    EXPECT_EQ(refusal("qwen3-moe", options), "accepted");
    for (const std::string family : {"llama", "qwen2", "gpt2"}) {
        EXPECT_EQ(refusal(family, options), "scales of 1 may not hold the keys of a " + family +
                                                " model, which does not normalise them");
    }
    options.allow_unit_kv_scale = true;
    EXPECT_EQ(refusal("llama", options), "accepted");
    EXPECT_EQ(refusal("llama", fp8_cache(KvCalibration::engine)), "accepted");
    options = fp8_cache(KvCalibration::none);
    options.fp8_cache = false;
    EXPECT_EQ(refusal("llama", options), "accepted");
}

TEST(KvScales, ACacheInFp8HasTwiceTheBlocks) {
    const auto backend = test::make_test_backend();
    EngineOptions plain{.context = 64, .kv_pool_bytes = 1 << 20}, coded = plain;
    coded.fp8_cache = true;
    const Architecture arch = read_hf_config(test::fixture("qwen3"));
    const Engine bf16(*backend, arch, recipe_named("bf16"), plain),
        fp8(*backend, arch, recipe_named("bf16"), coded);
    EXPECT_NEAR(static_cast<double>(fp8.scheduler().pool().size()),
                2.0 * static_cast<double>(bf16.scheduler().pool().size()), 1);
}

}  // namespace
}  // namespace octavo
