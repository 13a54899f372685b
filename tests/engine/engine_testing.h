// Engines over the reference models of tests/fixtures, and over one whose weights whole blocks of
// 128 x 128 cover: in the others blockwise leaves everything in bf16.
#pragma once

#include <algorithm>
#include <map>

#include "base/convert.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "test_backend.h"
#include "train/golden.h"

namespace octavo::test {

inline constexpr const char* kBlocks = "blocks";

inline Architecture architecture_of(const std::string& family) {
    if (family != kBlocks) return read_hf_config(fixture(family));
    return {.family = Family::llama,
            .vocab_size = 512,
            .hidden_size = 128,
            .layers = 2,
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 64,
            .intermediate_size = 256,
            .max_positions = 256};
}

// The weights that training begins with.
inline void give_first_weights(const Architecture& arch, std::span<const WeightTarget> weights) {
    const std::vector<Parameter> all = parameters(arch);
    for (const WeightTarget& w : weights) {
        const auto p = std::ranges::find(all, w.name, &Parameter::name);
        const std::vector<float> values = initial_values(*p, 3);
        std::vector<std::byte> converted(values.size() * size_of(w.dtype));
        convert(std::as_bytes(std::span(values)), Dtype::f32, converted, w.dtype);
        w.write(converted);
    }
}

inline WeightSource weights_of(const std::string& family) {
    if (family == kBlocks) {
        return [arch = architecture_of(family)](std::span<const WeightTarget> weights) {
            give_first_weights(arch, weights);
        };
    }
    return
        [family](std::span<const WeightTarget> weights) { load_weights(fixture(family), weights); };
}

inline std::unique_ptr<Engine> make_engine(Backend& backend, const std::string& family,
                                           const Recipe& recipe, EngineOptions options) {
    auto engine = std::make_unique<Engine>(backend, architecture_of(family), recipe, options);
    engine->load(weights_of(family));
    return engine;
}

struct Made {
    std::vector<std::int32_t> tokens;
    std::vector<float> logprobs;  // of the distributions they were drawn from
    Finish finish = Finish::none;
    std::vector<TokenScore> prompt = {}, scores = {};
    bool operator==(const Made& other) const {
        return tokens == other.tokens && logprobs == other.logprobs && finish == other.finish;
    }
};

inline void take(const TokenEvent& event, Made& made) {
    ASSERT_EQ(made.finish, Finish::none) << "an event after the end";
    ASSERT_NE(event.finish, Finish::failed) << event.error;
    made.finish = event.finish;
    if (event.prompt) return made.prompt.push_back(event.score);
    made.tokens.push_back(event.score.token);
    made.logprobs.push_back(event.drawn_logprob);
    made.scores.push_back(event.score);
}

// All of them, side by side; request i is submitted before step arrivals[i] (0 where there is
// none).
inline std::vector<Made> generate(Engine& engine, const std::vector<TextRequest>& requests,
                                  const std::vector<std::int64_t>& arrivals = {}) {
    std::vector<Made> made(requests.size());
    std::map<std::uint64_t, std::size_t> running;
    std::size_t next = 0;
    for (std::int64_t step = 0; next < requests.size() || !running.empty(); ++step) {
        while (next < requests.size() && (arrivals.empty() || arrivals[next] <= step)) {
            running[engine.submit(requests[next])] = next;
            ++next;
        }
        for (const TokenEvent& event : engine.step()) {
            const auto at = running.find(event.id);
            if (at == running.end()) {
                ADD_FAILURE() << "an event of nobody";
                continue;
            }
            take(event, made[at->second]);
            if (event.finish != Finish::none) running.erase(at);
        }
        if (step > 100000) {
            ADD_FAILURE() << "no end";
            break;
        }
    }
    return made;
}

inline std::vector<std::int32_t> golden_ids(const std::string& family) {
    const SafetensorsFile golden(fixture(family) / "golden.safetensors");
    std::vector<std::int32_t> ids;
    for (const std::int64_t id : values<std::int64_t>(golden.at("greedy"))) {
        ids.push_back(static_cast<std::int32_t>(id));
    }
    return ids;
}

inline std::vector<std::int32_t> random_prompt(std::int64_t length, std::uint64_t seed,
                                               std::int64_t vocabulary) {
    std::vector<std::int32_t> ids;
    const Rng rng(seed, 0);
    for (std::int64_t i = 0; i < length; ++i) {
        ids.push_back(static_cast<std::int32_t>(rng.bits(static_cast<std::uint64_t>(i)) %
                                                static_cast<std::uint64_t>(vocabulary)));
    }
    return ids;
}

}  // namespace octavo::test
