#include "engine/engine.h"
#include "backends/cpu/cpu.h"

#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "base/process.h"
#include "engine/engine_testing.h"

namespace octavo {
namespace {

using test::generate;
using test::golden_ids;
using test::Made;
using test::make_engine;
using test::random_prompt;

const EngineOptions kSmall{.context = 40, .max_seqs = 2, .max_batched_tokens = 64};

class Greedy : public testing::TestWithParam<const char*> {};

TEST_P(Greedy, ContinuesAsTheReferenceDoes) {
    const auto ids = golden_ids(GetParam());
    ASSERT_EQ(ids.size(), 40u);
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, GetParam(), recipe_named("fp32"), kSmall);
    const TextRequest request{.prompt = {ids.begin(), ids.begin() + 16},
                              .max_tokens = 24,
                              .sampling = {.temperature = 0}};
    const std::vector<std::int32_t> want(ids.begin() + 16, ids.end());
    // Side by side, and over blocks that have been used before.
    for (int round = 0; round < 2; ++round) {
        for (const Made& made : generate(*engine, {request, request, request})) {
            EXPECT_EQ(made.tokens, want);
            EXPECT_EQ(made.finish, Finish::length);
        }
    }
}

TEST_P(Greedy, StartsAlikeInBf16) {
    // The reference leads by far more than bf16's rounding at the first token.
    const auto ids = golden_ids(GetParam());
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, GetParam(), recipe_named("bf16"), kSmall);
    const auto made = generate(*engine, {{.prompt = {ids.begin(), ids.begin() + 16},
                                          .max_tokens = 1,
                                          .sampling = {.temperature = 0}}});
    EXPECT_EQ(made[0].tokens, std::vector<std::int32_t>{ids[16]});
}

INSTANTIATE_TEST_SUITE_P(Families, Greedy,
                         testing::Values("llama", "llama3-rope", "qwen2", "qwen3", "qwen3-moe",
                                         "gpt2"),
                         [](const auto& param_info) {
                             std::string name = param_info.param;
                             std::erase(name, '-');
                             return name;
                         });

// ---- What runs beside a text does not change it ------------------------------------------------

// Prompts of many lengths, some alike, in three kinds of sampling.
std::vector<TextRequest> crowd(std::int64_t vocabulary) {
    std::vector<TextRequest> requests;
    for (std::uint64_t i = 0; i < 24; ++i) {
        const std::int64_t length = std::array{1, 5, 16, 17, 33, 48, 70}[i % 7];
        TextRequest r{.prompt = random_prompt(length, i % 5, vocabulary),
                      .max_tokens = static_cast<std::int64_t>(3 + i * 7 % 20)};
        r.sampling = std::array{SampleOptions{.temperature = 1},
                                SampleOptions{.temperature = 0.7, .top_k = 20, .top_p = 0.9},
                                SampleOptions{.temperature = 0}}[i % 3];
        r.sequence = i / 2;
        r.sample = i % 2;
        requests.push_back(r);
    }
    return requests;
}

struct Setting {
    std::string family, recipe;
    bool fp8_cache = false, fp8_attention = false;

    // Of log-probabilities, by sums in other orders. Where one of those moves an activation from
    // one code to the next, it weighs more: four times what a CPU and an H100, whose library takes
    // another kernel for every number of rows, were measured to do.
    double most_apart() const {
        if (recipe != "blockwise") return 1e-3;
        return test::on_cuda() ? 0.2 : 1.6e-2;
    }
    EngineOptions options() const {
        return {.context = 96,
                .fp8_cache = fp8_cache,
                .fp8_attention = fp8_attention,
                .calibration = KvCalibration::none,
                .allow_unit_kv_scale = true};
    }
};

std::vector<Made> one_at_a_time(Backend& backend, const Setting& s,
                                const std::vector<TextRequest>& requests) {
    EngineOptions options = s.options();
    options.max_seqs = 1;
    options.prefix_cache = false;
    const auto engine = make_engine(backend, s.family, recipe_named(s.recipe), options);
    std::vector<Made> made;
    for (const TextRequest& r : requests) made.push_back(generate(*engine, {r})[0]);
    return made;
}

// Arrivals spread out, prompts cut every 24 tokens, and a cache of 14 blocks for texts of up to 6.
std::vector<Made> crowded(Backend& backend, const Setting& s,
                          const std::vector<TextRequest>& requests) {
    const Architecture arch = test::architecture_of(s.family);
    EngineOptions options = s.options();
    options.max_seqs = 8;
    options.max_batched_tokens = 24;
    const Recipe recipe = recipe_named(s.recipe);
    options.kv_pool_bytes = 14 * 16 * Engine(backend, arch, recipe, options).token_bytes();
    const auto engine = make_engine(backend, s.family, recipe, options);
    std::vector<std::int64_t> arrivals;
    for (std::size_t i = 0; i < requests.size(); ++i) {
        arrivals.push_back(static_cast<std::int64_t>(i / 5 * 4));
    }
    auto made = generate(*engine, requests, arrivals);
    const Scheduler& scheduler = engine->scheduler();
    EXPECT_GT(scheduler.counts().preemptions, 0);
    EXPECT_GT(scheduler.counts().hit_tokens, 0);
    EXPECT_EQ(scheduler.pool().free(), scheduler.pool().size());
    EXPECT_EQ(scheduler.pool().allocated(), scheduler.pool().freed());
    return made;
}

class Crowd : public testing::TestWithParam<Setting> {};

TEST_P(Crowd, ChangesNoBitWithReferenceKernels) {
    if (test::on_cuda()) GTEST_SKIP() << "the CPU's";
    const auto backend = make_cpu_backend({.reference = true});
    const auto requests = crowd(test::architecture_of(GetParam().family).vocab_size);
    const auto alone = one_at_a_time(*backend, GetParam(), requests);
    const auto together = crowded(*backend, GetParam(), requests);
    for (std::size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(together[i].tokens, alone[i].tokens) << "request " << i;
        EXPECT_EQ(together[i].logprobs, alone[i].logprobs) << "request " << i;
        EXPECT_EQ(together[i].finish, alone[i].finish) << "request " << i;
    }
}

// Where sums take other orders, texts part at some token; up to there log-probabilities agree.
TEST_P(Crowd, ChangesRoundingsOnly) {
    const auto backend = test::make_test_backend();
    const auto requests = crowd(test::architecture_of(GetParam().family).vocab_size);
    const auto alone = one_at_a_time(*backend, GetParam(), requests);
    const auto together = crowded(*backend, GetParam(), requests);
    std::int64_t tokens = 0, alike = 0;
    double largest = 0, sum = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
        tokens += std::ssize(alone[i].tokens);
        for (std::size_t t = 0; t < alone[i].tokens.size(); ++t) {
            if (alone[i].tokens[t] != together[i].tokens[t]) break;
            const double apart =
                std::abs(double{alone[i].logprobs[t]} - double{together[i].logprobs[t]});
            largest = std::max(largest, apart);
            sum += apart;
            ++alike;
        }
    }
    fmt::print(
        "log-probabilities apart: {:.2e} at most, {:.2e} on average; {} of {} tokens before "
        "texts part\n",
        largest, sum / static_cast<double>(alike), alike, tokens);
    EXPECT_GE(static_cast<double>(alike), 0.8 * static_cast<double>(tokens));
    EXPECT_LE(largest, GetParam().most_apart());
}

INSTANTIATE_TEST_SUITE_P(
    Settings, Crowd,
    testing::Values(Setting{"qwen3", "fp32"}, Setting{"qwen3", "bf16"}, Setting{"gpt2", "bf16"},
                    Setting{test::kBlocks, "blockwise"}, Setting{"qwen3-moe", "bf16"},
                    Setting{"qwen3", "bf16", true}, Setting{test::kBlocks, "blockwise", true},
                    Setting{"qwen3", "bf16", true, true},
                    Setting{test::kBlocks, "blockwise", true, true}),
    [](const auto& param_info) {
        std::string name = param_info.param.family + param_info.param.recipe +
                           (param_info.param.fp8_cache ? "Kv8" : "") +
                           (param_info.param.fp8_attention ? "Qk8" : "");
        std::erase(name, '-');
        return name;
    });

// ---- Requests ----------------------------------------------------------------------------------

TEST(Engine, TextsOfOnePromptDifferBySample) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"), kSmall);
    const TextRequest first{.prompt = {1, 2, 3}, .max_tokens = 30};
    TextRequest second = first, third = first;
    second.sample = 1;
    third.sequence = 1;
    const auto made = generate(*engine, {first, second, third, first});
    EXPECT_NE(made[0].tokens, made[1].tokens);
    EXPECT_NE(made[0].tokens, made[2].tokens);
    EXPECT_EQ(made[0].tokens, made[3].tokens);
}

TEST(Engine, StopsAtStopTokens) {
    const auto ids = golden_ids("llama");
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"), kSmall);
    TextRequest request{.prompt = {ids.begin(), ids.begin() + 16},
                        .max_tokens = 24,
                        .sampling = {.temperature = 0},
                        .stop_tokens = {ids[20]}};
    const auto made = generate(*engine, {request})[0];
    const auto end = std::find(ids.begin() + 16, ids.end(), ids[20]) + 1;
    EXPECT_EQ(made.tokens, std::vector<std::int32_t>(ids.begin() + 16, end));
    EXPECT_EQ(made.finish, Finish::stop);
    EXPECT_EQ(engine->running(), 0);
}

TEST(Engine, ScoresPrompts) {
    // A text that was generated, scored as a prompt, has the log-probabilities it was drawn with.
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "qwen3", recipe_named("fp32"),
                                    {.context = 80, .max_seqs = 4, .max_batched_tokens = 16});
    const auto prompt = random_prompt(20, 3, engine->vocabulary());
    const auto drawn = generate(*engine, {{.prompt = prompt, .max_tokens = 25, .logprobs = 2}})[0];
    std::vector<std::int32_t> whole = prompt;
    whole.insert(whole.end(), drawn.tokens.begin(), drawn.tokens.end());
    for (const std::int64_t top : {0, 2}) {
        TextRequest request{.prompt = whole, .logprobs = top, .score_prompt = true};
        const auto scored = generate(*engine, {request, request});
        for (const Made& made : scored) {
            EXPECT_EQ(made.finish, Finish::length);
            EXPECT_TRUE(made.tokens.empty());
            ASSERT_EQ(made.prompt.size(), whole.size());
            EXPECT_FALSE(made.prompt[0].logprob);
            for (std::size_t i = 0; i < whole.size(); ++i) {
                EXPECT_EQ(made.prompt[i].token, whole[i]);
                if (i < prompt.size()) continue;
                const std::size_t at = i - prompt.size();
                EXPECT_NEAR(*made.prompt[i].logprob, drawn.logprobs[at], 1e-4);
                EXPECT_NEAR(*drawn.scores[at].logprob, drawn.logprobs[at], 1e-5);
                ASSERT_EQ(made.prompt[i].top.size(), static_cast<std::size_t>(top));
                if (top > 0) {
                    EXPECT_EQ(made.prompt[i].top[0].first, drawn.scores[at].top[0].first);
                    EXPECT_GE(made.prompt[i].top[0].second, made.prompt[i].top[1].second);
                }
            }
        }
    }
}

// Scores of prompt tokens that wait for the head while their text fails are dropped with it.
TEST(Engine, ATextFailsAtItsFirstRowAlone) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"),
                                    {.context = 256, .max_seqs = 3, .max_batched_tokens = 700});
    engine->load([](std::span<const WeightTarget> weights) {
        std::vector<WeightTarget> targets(weights.begin(), weights.end());
        for (WeightTarget& t : targets) {
            if (t.name != "model.norm.weight") continue;
            t.write = [write = t.write](std::span<const std::byte> values) {
                const std::vector<float> large(values.size() / sizeof(float), 3e38f);
                write(std::as_bytes(std::span(large)));
            };
        }
        load_weights(test::fixture("llama"), targets);
    });
    std::set<std::uint64_t> ids;
    for (std::uint64_t i = 0; i < 3; ++i) {  // 657 rows, where a head takes 256
        ids.insert(engine->submit({.prompt = random_prompt(220, i, engine->vocabulary()),
                                   .logprobs = 0,
                                   .score_prompt = true}));
    }
    for (const TokenEvent& event : engine->step()) {
        if (event.finish == Finish::none) continue;  // the first token, which has no score
        EXPECT_EQ(event.finish, Finish::failed);
        EXPECT_EQ(event.error.substr(0, event.error.find('\n')),
                  "the logits after 1 tokens are not finite");
        EXPECT_EQ(ids.erase(event.id), 1u);
    }
    EXPECT_TRUE(ids.empty());
    EXPECT_EQ(engine->running(), 0);
    EXPECT_EQ(engine->scheduler().pool().free(), engine->scheduler().pool().size());
}

// What another text asks for is not where this one's scores come from.
TEST(Engine, ScoresDoNotDependOnNeighboursWishes) {
    const auto backend = make_cpu_backend({.reference = true});
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"), kSmall);
    const TextRequest plain{.prompt = {1, 2, 3}, .max_tokens = 12, .logprobs = 0};
    TextRequest curious{.prompt = {7, 8}, .max_tokens = 12, .logprobs = 5};
    curious.sampling = {.temperature = 0.5, .top_k = 9};
    const auto alone = generate(*engine, {plain})[0];
    const auto beside = generate(*engine, {plain, curious});
    EXPECT_EQ(beside[0], alone);
    for (std::size_t i = 0; i < alone.scores.size(); ++i) {
        EXPECT_EQ(beside[0].scores[i].logprob, alone.scores[i].logprob);
        EXPECT_TRUE(beside[0].scores[i].top.empty());
        EXPECT_EQ(beside[1].scores[i].top.size(), 5u);
    }
}

TEST(Engine, PaddingIdsInAPromptHaveNoProbability) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"), kSmall);
    const auto last = static_cast<std::int32_t>(engine->vocabulary() - 1);
    TextRequest request{.prompt = {1, last, 2}, .logprobs = 3, .score_prompt = true};
    request.sampling.vocabulary = last;
    const auto made = generate(*engine, {request})[0];
    ASSERT_EQ(made.prompt.size(), 3u);
    EXPECT_EQ(made.prompt[1].logprob, -INFINITY);
    EXPECT_TRUE(std::isfinite(*made.prompt[2].logprob));
    for (const TokenScore& score : made.prompt) {
        for (const auto& [token, logprob] : score.top) EXPECT_LT(token, last);
    }
}

TEST(Engine, NamesItsPlans) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"),
                                    {.context = 40, .max_seqs = 6, .max_batched_tokens = 50});
    EXPECT_EQ(engine->decode_plan(1), "decode 1");
    EXPECT_EQ(engine->decode_plan(3), "decode 4");
    EXPECT_EQ(engine->decode_plan(5), "decode 6");
    EXPECT_EQ(engine->prompt_plan(17), "prompt 32");
    EXPECT_EQ(engine->prompt_plan(33), "prompt 50");
    EXPECT_EQ(engine->head_plan(33), "head 50");
    EXPECT_TRUE(engine->program().has(engine->head_plan(33)));
}

TEST(Engine, CancelledTextsSendNothingMore) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"), kSmall);
    const TextRequest request{.prompt = {1, 2, 3}, .max_tokens = 20};
    const auto first = engine->submit(request), second = engine->submit(request),
               waiting = engine->submit(request);
    (void)engine->step();
    engine->cancel(first);
    engine->cancel(waiting);
    engine->cancel(12345);
    std::size_t tokens = 1;
    for (Finish finish = Finish::none; finish == Finish::none;) {
        const auto events = engine->step();
        ASSERT_EQ(events.size(), 1u);
        EXPECT_EQ(events[0].id, second);
        finish = events[0].finish;
        ++tokens;
    }
    EXPECT_EQ(tokens, 20u);
    EXPECT_TRUE(engine->step().empty());
    EXPECT_EQ(engine->scheduler().pool().free(), engine->scheduler().pool().size());
}

TEST(Engine, RefusesWhatDoesNotFit) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"), kSmall);
    const std::vector<std::int32_t> prompt{1, 2, 3};
    EXPECT_THROW(engine->submit({.prompt = prompt, .max_tokens = 38}), Error);
    EXPECT_THROW(engine->submit({.prompt = {}, .max_tokens = 1}), Error);
    EXPECT_THROW(engine->submit({.prompt = {512}, .max_tokens = 1}), Error);
    EXPECT_THROW(
        engine->submit({.prompt = prompt, .max_tokens = 1, .sampling = {.temperature = -1}}),
        Error);
    const auto most = std::numeric_limits<std::int64_t>::max();
    EXPECT_THROW(engine->submit({.prompt = prompt, .max_tokens = most}), Error);
    EXPECT_THROW(engine->submit({.prompt = prompt, .max_tokens = -1, .score_prompt = true}), Error);
    EXPECT_THROW(engine->submit({.prompt = prompt}), Error);  // nothing is asked for
    EXPECT_EQ(engine->scheduler().waiting(), 0);
    const Architecture arch = read_hf_config(test::fixture("llama"));
    EXPECT_THROW(Engine(*backend, arch, recipe_named("fp32"), {.context = 257}), Error);
    EXPECT_THROW(
        Engine(*backend, arch, recipe_named("fp32"), {.context = 256, .kv_pool_bytes = 1000}),
        Error);
}

// ---- Weights -----------------------------------------------------------------------------------

// A source that damages one element of a parameter.
WeightSource damaged(const std::string& family, const std::string& parameter, float value) {
    return [=](std::span<const WeightTarget> weights) {
        std::vector<WeightTarget> targets(weights.begin(), weights.end());
        for (WeightTarget& t : targets) {
            if (t.name != parameter) continue;
            t.write = [write = t.write, value, dtype = t.dtype](std::span<const std::byte> values) {
                std::vector<std::byte> copy(values.begin(), values.end());
                const auto element = static_cast<std::ptrdiff_t>(size_of(dtype));
                convert(&value, Dtype::f32, copy.data() + 7 * element, dtype, 1);
                write(copy);
            };
        }
        test::weights_of(family)(targets);
    };
}

std::string failure_of(Engine& engine, const WeightSource& source) {
    try {
        engine.load(source);
    } catch (const Error& error) {
        return error.message();
    }
    return "";
}

TEST(EngineWeights, DamageIsNamedAndTheNextLoadMendsIt) {
    const auto backend = test::make_test_backend();
    for (const char* recipe : {"bf16", "blockwise"}) {
        const auto engine = make_engine(*backend, test::kBlocks, recipe_named(recipe), kSmall);
        const std::string name = "model.layers.1.mlp.up_proj.weight";
        for (const float value : {std::nanf(""), INFINITY}) {
            const std::string why = failure_of(*engine, damaged(test::kBlocks, name, value));
            EXPECT_NE(why.find("'" + name + "': element 7"), std::string::npos) << why;
            EXPECT_THROW(engine->submit({.prompt = {1}, .max_tokens = 1}), Error);
        }
        engine->load(test::weights_of(test::kBlocks));
        EXPECT_EQ(generate(*engine, {{.prompt = {1}, .max_tokens = 3}})[0].tokens.size(), 3u);
    }
}

// Large enough for several threads, each of which looks at a part.
TEST(EngineWeights, DamageIsNamedInLargeOnes) {
    const auto backend = test::make_test_backend();
    Architecture arch = read_hf_config(test::fixture("llama"));
    arch.vocab_size = 70000;
    Engine engine(*backend, arch, recipe_named("bf16"), kSmall);
    std::int64_t damaged = -1;
    const WeightSource source = [&](std::span<const WeightTarget> weights) {
        for (const WeightTarget& w : weights) {
            std::vector<std::byte> zeros(static_cast<std::size_t>(w.shape.elements()) *
                                         size_of(w.dtype));
            if (w.name == "model.embed_tokens.weight" && damaged >= 0) {
                for (const std::int64_t at : {damaged, damaged + 5, w.shape.elements() - 1}) {
                    const float nan = std::nanf("");
                    convert(&nan, Dtype::f32,
                            zeros.data() + at * static_cast<std::int64_t>(size_of(w.dtype)),
                            w.dtype, 1);
                }
            }
            w.write(zeros);
        }
    };
    EXPECT_EQ(failure_of(engine, source), "");
    for (const std::int64_t at : {0, 1234567, 3333333}) {
        damaged = at;
        const std::string why = failure_of(engine, source);
        EXPECT_EQ(why.substr(0, why.find('\n')),
                  fmt::format("'model.embed_tokens.weight': element {} is NaN", at));
    }
}

TEST(EngineWeights, AllAreGivenOnceInTheirSize) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("bf16"), kSmall);
    EXPECT_NE(failure_of(*engine, [](auto) {}).find("was given no values"), std::string::npos);
    const std::string why = failure_of(*engine, [](std::span<const WeightTarget> weights) {
        const std::array<std::byte, 2> few{};
        weights[0].write(few);
    });
    EXPECT_NE(why.find("bytes for"), std::string::npos) << why;
    EXPECT_THROW(engine->submit({.prompt = {1}, .max_tokens = 1}), Error);
}

// A source that remembers what it gave, so that a load costs what the engine does with it.
WeightSource remembered(const Architecture& arch) {
    return [arch, known = std::make_shared<std::map<std::string, std::vector<std::byte>>>()](
               std::span<const WeightTarget> weights) {
        std::vector<WeightTarget> unknown(weights.begin(), weights.end());
        if (known->empty()) {
            for (WeightTarget& t : unknown) {
                t.write = [&bytes = (*known)[t.name]](std::span<const std::byte> values) {
                    bytes.assign(values.begin(), values.end());
                };
            }
            test::give_first_weights(arch, unknown);
        }
        for (const WeightTarget& t : weights) t.write(known->at(t.name));
    };
}

TEST(EngineWeights, LoadingAgainChangesNothingAndMovesNothing) {
    const auto backend = test::make_test_backend();
    Architecture arch = test::architecture_of(test::kBlocks);  // small, to be loaded often
    arch.vocab_size = 64;
    arch.layers = 1;
    arch.heads = 2;
    arch.intermediate_size = 128;
    const auto engine = std::make_unique<Engine>(*backend, arch, recipe_named("blockwise"), kSmall);
    const WeightSource source = remembered(arch);
    engine->load(source);
    const TextRequest request{.prompt = random_prompt(33, 1, engine->vocabulary()),
                              .max_tokens = 5};
    const auto before = generate(*engine, {request})[0];
    (void)generate(*engine, {request});
    EXPECT_EQ(engine->scheduler().counts().hit_tokens, 32);  // its own prompt
    std::vector<const void*> addresses;
    const State& state = engine->program().state();
    for (const State::Entry& e : state.entries()) addresses.push_back(e.tensor.data);
    for (int i = 0; i < 20; ++i) engine->load(source);
    const std::int64_t resident = resident_bytes();
    for (int i = 0; i < 980; ++i) engine->load(source);
    EXPECT_EQ(engine->weight_version(), 1001);
    EXPECT_LE(resident_bytes() - resident, 64 << 10);  // 67 bytes a load would show
    for (std::size_t i = 0; i < addresses.size(); ++i) {
        EXPECT_EQ(state.entries()[i].tensor.data, addresses[i]);
    }
    EXPECT_EQ(generate(*engine, {request})[0], before);
    EXPECT_EQ(engine->scheduler().counts().hit_tokens, 32);  // nothing of the old weights is found
}

TEST(EngineWeights, AreNotTakenWhileTextsRun) {
    const auto backend = test::make_test_backend();
    const auto engine = make_engine(*backend, "llama", recipe_named("fp32"), kSmall);
    const auto id = engine->submit({.prompt = {1}, .max_tokens = 3});
    EXPECT_THROW(engine->load(test::weights_of("llama")), Error);
    EXPECT_EQ(engine->weight_version(), 1);
    engine->cancel(id);
    engine->load(test::weights_of("llama"));
}

}  // namespace
}  // namespace octavo
