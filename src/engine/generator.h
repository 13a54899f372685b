// Text generation over a key-value cache: prompts go in by chunks, tokens come out one by one, both
// through the model functions that training uses.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/sampler.h"
#include "models/model.h"
#include "recipes/recipe.h"
#include "runtime/program.h"

namespace octavo {

class Generator {
  public:
    // `max_length` tokens, prompt included, fit in the cache.
    Generator(Backend&, const Architecture&, const Recipe&, std::int64_t max_length);

    Program& program() { return program_; }
    State& state() { return program_.state(); }
    void allocate(std::int64_t limit) { program_.allocate(limit); }
    // After the master weights were written.
    void refresh();

    // Continues `prompt` (at least one token) by up to `count` tokens, until `stop` says so.
    // on_token sees every token as it comes. `sequence` numbers the text for the sampler.
    std::vector<std::int32_t> generate(
        std::span<const std::int32_t> prompt, std::int64_t count, const SampleOptions&,
        std::uint64_t sequence = 0,
        const std::function<bool(std::int32_t token)>& on_token = [](std::int32_t) {
            return true;
        });

    // Runs at most prompt_chunk() tokens, of which the first is at `position` of its text; all
    // before it must have been run. Returns the logits after the last, good until the next call.
    std::span<const float> feed(std::span<const std::int32_t> tokens, std::int64_t position);
    std::int64_t prompt_chunk() const;

  private:
    Architecture architecture_;
    Program program_;
    std::int64_t max_length_;
    std::vector<float> logits_;
};

}  // namespace octavo
