#include "engine/generator.h"

#include <limits>

#include "models/weights.h"
#include "test_backend.h"
#include "train/golden.h"

namespace octavo {
namespace {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

std::unique_ptr<Generator> load(Backend& backend, const std::string& family, std::int64_t length) {
    auto g = std::make_unique<Generator>(backend, read_hf_config(test::fixture(family)),
                                         recipe_named("fp32"), length);
    g->allocate(kNoLimit);
    load_weights(test::fixture(family), g->state());
    g->refresh();
    return g;
}

std::vector<std::int32_t> golden_ids(const std::string& family) {
    const SafetensorsFile golden(test::fixture(family) / "golden.safetensors");
    std::vector<std::int32_t> ids;
    for (const std::int64_t id : test::values<std::int64_t>(golden.at("greedy"))) {
        ids.push_back(static_cast<std::int32_t>(id));
    }
    return ids;
}

class Greedy : public testing::TestWithParam<const char*> {};

TEST_P(Greedy, ContinuesAsTheReferenceDoes) {
    const auto ids = golden_ids(GetParam());
    ASSERT_EQ(ids.size(), 40u);
    const auto backend = test::make_test_backend();
    const auto generator = load(*backend, GetParam(), 40);
    const std::vector<std::int32_t> prompt(ids.begin(), ids.begin() + 16);
    const std::vector<std::int32_t> want(ids.begin() + 16, ids.end());
    EXPECT_EQ(generator->generate(prompt, 24, {.temperature = 0}), want);
    // A second text over the same cache must not see the first.
    EXPECT_EQ(generator->generate(prompt, 24, {.temperature = 0}), want);
}

TEST_P(Greedy, StartsAlikeInBf16) {
    // The reference leads by far more than bf16's rounding at the first token.
    const auto ids = golden_ids(GetParam());
    const auto backend = test::make_test_backend();
    Generator generator(*backend, read_hf_config(test::fixture(GetParam())), recipe_named("bf16"),
                        17);
    generator.allocate(kNoLimit);
    load_weights(test::fixture(GetParam()), generator.state());
    generator.refresh();
    const std::vector<std::int32_t> prompt(ids.begin(), ids.begin() + 16);
    EXPECT_EQ(generator.generate(prompt, 1, {.temperature = 0})[0], ids[16]);
}

INSTANTIATE_TEST_SUITE_P(Families, Greedy,
                         testing::Values("llama", "llama3-rope", "qwen2", "qwen3", "qwen3-moe",
                                         "gpt2"),
                         [](const auto& param_info) {
                             std::string name = param_info.param;
                             std::erase(name, '-');
                             return name;
                         });

TEST(Generator, PromptsLongerThanAChunk) {
    // 100 tokens go in as 64 + 36; one by one they must lead to the same continuation.
    const auto backend = test::make_test_backend();
    const auto chunked = load(*backend, "llama", 120);
    const auto ids = golden_ids("llama");
    std::vector<std::int32_t> prompt;
    for (std::size_t i = 0; i < 100; ++i) prompt.push_back(ids[i % ids.size()]);
    const auto at_once = chunked->generate(prompt, 10, {.temperature = 0});

    std::vector<std::int32_t> one_by_one(prompt.begin(), prompt.begin() + 1);
    const auto again = load(*backend, "llama", 120);
    // Feeding the known prefix token by token: each call generates one token, which is dropped.
    for (std::size_t n = 98; n <= 100; ++n) {
        const std::vector<std::int32_t> prefix(prompt.begin(),
                                               prompt.begin() + static_cast<std::ptrdiff_t>(n));
        again->generate(prefix, 1, {.temperature = 0});
    }
    EXPECT_EQ(again->generate(prompt, 10, {.temperature = 0}), at_once);
}

TEST(Generator, RefusesWhatDoesNotFit) {
    const auto backend = test::make_test_backend();
    const auto g = load(*backend, "llama", 8);
    const std::vector<std::int32_t> prompt{1, 2, 3};
    EXPECT_THROW(g->generate(prompt, 6, {}), Error);
    EXPECT_THROW(g->generate({}, 1, {}), Error);
    EXPECT_THROW(g->generate(std::vector<std::int32_t>{512}, 1, {}), Error);
    EXPECT_THROW(
        Generator(*backend, read_hf_config(test::fixture("llama")), recipe_named("fp32"), 257),
        Error);
}

}  // namespace
}  // namespace octavo
