// Models of a few thousand parameters, and batches for them.
#pragma once

#include <limits>

#include "base/rng.h"
#include "test_backend.h"
#include "train/train_program.h"

namespace octavo::test {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

inline Architecture tiny(Family family) {
    const bool gpt2 = family == Family::gpt2;
    return {.family = family,
            .vocab_size = 64,
            .hidden_size = 32,
            .layers = 2,
            .heads = 4,
            .kv_heads = gpt2 ? 4 : 2,
            .head_dim = 8,
            .intermediate_size = 96,
            .max_positions = 128,
            .tie_embeddings = gpt2};
}

inline StepOptions tiny_options(Family family, std::string_view recipe) {
    return {.architecture = tiny(family),
            .recipe = recipe_named(recipe),
            .batch = 2,
            .seq = 16,
            .adamw = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f},
            .clip = 1};
}

struct TokenBatch {
    std::vector<std::int32_t> ids, targets;
};

inline TokenBatch random_batch(const StepOptions& o, std::uint64_t seed) {
    const auto n = static_cast<std::size_t>(o.batch * o.seq);
    const auto vocab = static_cast<std::uint64_t>(o.architecture.vocab_size);
    TokenBatch batch;
    for (std::size_t i = 0; i < n; ++i) {
        batch.ids.push_back(static_cast<std::int32_t>(Rng(seed, 0).bits64(i) % vocab));
        batch.targets.push_back(static_cast<std::int32_t>(Rng(seed, 1).bits64(i) % vocab));
    }
    return batch;
}

inline std::vector<std::byte> read_all(const State& state, std::string_view name) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(total_bytes(state.at(name).type)));
    state.read_all_parts(name, bytes.data());
    return bytes;
}

inline std::vector<float> read_f32(const State& state, std::string_view name) {
    std::vector<float> values(static_cast<std::size_t>(state.at(name).type.shape.elements()));
    state.read(name, values.data());
    return values;
}

// A program with memory and initial weights.
struct Session {
    explicit Session(const StepOptions& options, bool accumulates = false)
        : program(*backend, options, accumulates) {
        program.allocate(kNoLimit);
        program.initialise(1);
    }
    float micro(const TokenBatch& batch, bool first = true) {
        const auto n = static_cast<float>(batch.ids.size());
        const float before = first ? 0 : program.loss();
        program.micro(batch.ids, batch.targets, 1 / n, first);
        return program.loss() - before;
    }
    State& state() { return program.state(); }

    std::unique_ptr<Backend> backend = test::make_test_backend();
    TrainProgram program;
};

}  // namespace octavo::test
