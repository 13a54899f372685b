// What a cache in FP8 loses under scales that fit, that have gone stale and that were never
// measured, and what attention in FP8 loses beside it (FP8-RL, arXiv:2601.18150).
#include <numeric>

#include "engine/engine_testing.h"
#include "ops/scaling_test.h"

namespace octavo {
namespace {

using test::as_is;
using test::generate;
using test::HostTensor;
using test::make_engine;
using test::relative_error;
using test::scalar;

using Values32 = std::vector<float>;

constexpr std::int64_t kHead = 128, kTokens = 8192;

Values32 normal(double sigma) {
    const HostTensor x = test::random_tensor(Dtype::f32, {kTokens * kHead}, 1, sigma);
    return {x.values.begin(), x.values.end()};
}

// What a cache gives back of `values`.
Values32 stored(const Values32& values, float scale) {
    const HostTensor x =
        test::tensor(Dtype::f32, {kTokens, 1, 1, kHead}, {values.begin(), values.end()});
    const HostTensor pool =
        test::tensor(Dtype::e4m3, {kTokens, 1, kHead}, std::vector<double>(values.size()));
    std::vector<double> slots(kTokens);
    std::iota(slots.begin(), slots.end(), 0);
    const auto pools = test::run(as_is(KvWrite{}),
                                 {pool, pool, x, x, test::tensor(Dtype::i32, {kTokens, 1}, slots),
                                  scalar(scale), scalar(scale)});
    Values32 back;
    for (const double code : pools[0].values) back.push_back(static_cast<float>(code) * scale);
    return back;
}

double error_of_storage(const Values32& values, float scale) {
    return relative_error(stored(values, scale), values);
}

float scale_by_range(float amax, float range) {
    return static_cast<float>(test::run(as_is(RangeScale{range}), {scalar(amax)})[0].values[0]);
}

// Scales measured where the largest element was 4.8, of a tensor that has grown since. A trainer's
// leave 5 % (NeMo-RL#1212), the engine's a factor of 2.24 and 4.48.
TEST(KvErrors, OfScalesThatHaveGoneStale) {
    constexpr float kAmax = 4.8f;
    const CacheContext::Ranges ranges{};
    const float trainer = 1.05f * kAmax / 448, k = scale_by_range(kAmax, ranges.k),
                v = scale_by_range(kAmax, ranges.v);
    struct Row {
        double growth, trainer, k, v;
    };
    for (const Row& row : {Row{1, 0.0265, 0.0265, 0.0265}, Row{1.2, 0.0265, 0.0265, 0.0265},
                           Row{1.5, 0.028, 0.0265, 0.0265}, Row{2, 0.054, 0.0265, 0.0265},
                           Row{4, 0.289, 0.044, 0.0265}}) {
        SCOPED_TRACE(row.growth);
        const Values32 x = normal(row.growth);
        EXPECT_NEAR(error_of_storage(x, trainer), row.trainer, 0.03 * row.trainer);
        EXPECT_NEAR(error_of_storage(x, k), row.k, 0.03 * row.k);
        EXPECT_NEAR(error_of_storage(x, v), row.v, 0.03 * row.v);
    }
}

// A scale of 1 does as well as any other for elements of 0.1 to 100; smaller ones are subnormal,
// larger ones saturate.
TEST(KvErrors, OfUnitScales) {
    struct Row {
        double sigma, error;
    };
    for (const Row& row : {Row{0.1, 0.0265}, Row{1, 0.0265}, Row{10, 0.0265}, Row{100, 0.0265},
                           Row{0.01, 0.057}, Row{300, 0.216}}) {
        EXPECT_NEAR(error_of_storage(normal(row.sigma), 1), row.error, 0.02 * row.error)
            << row.sigma;
    }
}

// A channel of keys at 1000, as in models whose projections have a bias: a scale of 1 cuts it at
// 448, a calibrated one holds it.
TEST(KvErrors, OfAChannelThatUnitScalesDoNotHold) {
    Values32 keys = normal(1);
    for (std::size_t i = 5; i < keys.size(); i += kHead) keys[i] = 1000;
    const Values32 cut = stored(keys, 1);
    EXPECT_EQ(cut[5], 448);
    EXPECT_GT(relative_error(cut, keys), 0.5);
    const CacheContext::Ranges ranges{};
    EXPECT_LT(error_of_storage(keys, scale_by_range(1000, ranges.k)), 0.07);
}

// Keys after QK-norm are not larger than the largest weight of the norm times sqrt(D), turned or
// not; one channel that leads comes close.
TEST(KvErrors, QkNormBoundsKeys) {
    constexpr std::int64_t kRows = 64;
    std::vector<double> keys = test::random_tensor(Dtype::f32, {kRows * kHead}, 1).values;
    std::vector<double> gamma = test::random_tensor(Dtype::f32, {kHead}, 2).values, positions;
    double largest = 0;
    for (const double g : gamma) largest = std::max(largest, std::abs(g));
    gamma[0] = largest;
    for (std::int64_t row = 0; row < kRows; ++row) {
        keys[static_cast<std::size_t>(row * kHead + row)] = 1000;
        positions.push_back(static_cast<double>(37 * row));
    }
    const auto turned = test::run(
        [](Builder& b, const Values& in) {
            const Value normed = b.emit(RmsNorm{1e-6f}, {in[0], in[1]})[0];
            return Values{normed,
                          b.one(Rope{.theta = 10000, .max_positions = 4096}, {normed, in[2]})};
        },
        {test::tensor(Dtype::f32, {1, kRows, 1, kHead}, keys),
         test::tensor(Dtype::f32, {kHead}, gamma),
         test::tensor(Dtype::i32, {1, kRows}, positions)});
    const double bound = largest * std::sqrt(static_cast<double>(kHead));
    for (const HostTensor& k : turned) {
        double most = 0;
        for (const double x : k.values) most = std::max(most, std::abs(x));
        EXPECT_LE(most, bound * (1 + 1e-6));
        EXPECT_GT(most, 0.9 * bound);
    }
}

// The scales that an engine measures are below it.
TEST(KvErrors, QkNormBoundsMeasuredScales) {
    const auto backend = test::make_test_backend();
    const Architecture arch = read_hf_config(test::fixture("qwen3"));
    const EngineOptions options{
        .context = 64, .max_seqs = 4, .max_batched_tokens = 64, .fp8_cache = true};
    const auto engine = make_engine(*backend, "qwen3", recipe_named("fp32"), options);
    (void)generate(*engine,
                   {{.prompt = test::random_prompt(60, 1, engine->vocabulary()), .max_tokens = 1}});
    const std::vector<float> scales = engine->kv_scales();
    const SafetensorsFile weights(test::fixture("qwen3") / "model.safetensors");
    for (std::int64_t layer = 0; layer < arch.layers; ++layer) {
        for (const std::size_t which : {0, 1}) {  // q and k
            const auto name = fmt::format("model.layers.{}.self_attn.{}_norm.weight", layer,
                                          which == 0 ? "q" : "k");
            double largest = 0;
            for (const float g : test::values<float>(weights.at(name))) {
                largest = std::max(largest, std::abs(double{g}));
            }
            const double bound = largest * std::sqrt(static_cast<double>(arch.head_dim));
            const double range = which == 0 ? options.ranges.q : options.ranges.k;
            const double measured = double{scales[3 * layer + which]} * range;
            EXPECT_LE(measured, bound * (1 + 1e-6));
            EXPECT_GT(measured, 0.3 * bound);
        }
    }
}

// The logits after each token of a prompt.
Values32 logits_of(const std::string& family, const std::string& recipe, bool fp8_cache,
                   bool fp8_attention) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, family, recipe_named(recipe),
                                    {.context = 128,
                                     .max_seqs = 1,
                                     .max_batched_tokens = 128,
                                     .fp8_cache = fp8_cache,
                                     .fp8_attention = fp8_attention});
    const std::int64_t vocabulary = engine->vocabulary();
    (void)generate(*engine,
                   {{.prompt = test::random_prompt(128, 3, vocabulary), .score_prompt = true}});
    Values32 logits(static_cast<std::size_t>(128 * vocabulary));
    engine->program().read_output("head 128", "logits", logits.data());
    logits.resize(static_cast<std::size_t>(127 * vocabulary));
    return logits;
}

double cosine(const Values32& x, const Values32& y) {
    double xy = 0, xx = 0, yy = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        xy += double{x[i]} * y[i];
        xx += double{x[i]} * x[i];
        yy += double{y[i]} * y[i];
    }
    return xy / std::sqrt(xx * yy);
}

class Fp8Attention : public testing::TestWithParam<const char*> {};

// Storage alone costs less than products in FP8, too, and neither much.
TEST_P(Fp8Attention, CostsMoreThanStorageAndLittle) {
    const Values32 exact = logits_of(GetParam(), "fp32", false, false),
                   storage = logits_of(GetParam(), "fp32", true, false),
                   products = logits_of(GetParam(), "fp32", true, true);
    fmt::print("errors of logits: {:.2e} of storage, {:.2e} of products, cosine {:.6f}\n",
               relative_error(storage, exact), relative_error(products, exact),
               cosine(products, exact));
    EXPECT_GT(relative_error(storage, exact), 0);
    EXPECT_LT(relative_error(storage, exact), relative_error(products, exact));
    EXPECT_GT(cosine(products, exact), 0.999);
}

INSTANTIATE_TEST_SUITE_P(Families, Fp8Attention, testing::Values("llama", "qwen2", "qwen3", "gpt2"),
                         [](const auto& param_info) { return std::string(param_info.param); });

}  // namespace
}  // namespace octavo
