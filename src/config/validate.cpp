#include "config/validate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>

#include "base/error.h"
#include "config/value.h"

namespace octavo {
namespace {

template <class... Args>
void check_usage(bool condition, fmt::format_string<Args...> text, Args&&... args) {
    if (!condition) {
        fail_usage(text, std::forward<Args>(args)...);
    }
}

void validate_model(const RunConfig& config) {
    const auto& m = config.model;
    check_usage(m.heads % m.kv_heads == 0,
                "model.kv_heads: expected a divisor of model.heads ({}), got {}", m.heads,
                m.kv_heads);
    check_usage(config.train.seq <= m.max_positions,
                "train.seq: expected at most model.max_positions ({}), got {}\n"
                "  Shorten the sequences or raise model.max_positions.",
                m.max_positions, config.train.seq);
    const bool sparse = m.family == "qwen3_moe";
    check_usage(sparse == (m.num_experts > 0),
                "model.num_experts: expected {} in family {}, got {}", sparse ? "1 or more" : "0",
                m.family, m.num_experts);
    check_usage(!sparse || (m.num_experts_per_tok >= 1 && m.num_experts_per_tok <= m.num_experts),
                "model.num_experts_per_tok: expected 1 to model.num_experts ({}), got {}",
                m.num_experts, m.num_experts_per_tok);
    check_usage(!sparse || m.moe_intermediate_size > 0,
                "model.moe_intermediate_size: expected the width of an expert, got 0");
    if (m.family != "gpt2") {
        check_usage(m.head_dim % 2 == 0,
                    "model.head_dim: expected an even number for rotary positions, got {}",
                    m.head_dim);
        return;
    }
    check_usage(m.kv_heads == m.heads,
                "model.kv_heads: expected model.heads ({}) in family gpt2, got {}", m.heads,
                m.kv_heads);
    check_usage(m.heads * m.head_dim == m.hidden_size,
                "model.head_dim: expected hidden_size / heads ({} / {}) in family gpt2, got {}",
                m.hidden_size, m.heads, m.head_dim);
    check_usage(m.tie_embeddings, "model.tie_embeddings: expected true in family gpt2, got false");
}

void validate_schedule(const RunConfig::Train& t) {
    check_usage(t.warmup_steps <= t.steps,
                "train.warmup_steps: expected at most train.steps ({}), got {}", t.steps,
                t.warmup_steps);
    if (t.schedule == "wsd") {
        const auto decay = std::llround(t.decay_fraction * static_cast<double>(t.steps));
        check_usage(t.warmup_steps + decay <= t.steps,
                    "train.decay_fraction: expected at most {} steps after warm-up, got {} of {}\n"
                    "  Lower train.decay_fraction or train.warmup_steps.",
                    t.steps - t.warmup_steps, decay, t.steps);
    }
}

void validate_mixture(const RunConfig::Data& data) {
    const std::vector<double>&weights = data.weights, &stages = data.stages;
    const std::size_t entries = data.train.size();
    const bool rise = std::ranges::adjacent_find(stages, std::greater_equal{}) == stages.end();
    const bool whole = std::ranges::all_of(stages, [](double s) { return s == std::floor(s); });
    check_usage(rise && whole, "data.stages: expected whole numbers of steps that rise, got {}",
                to_toml(ConfigValue(stages)));
    if (weights.empty()) {
        check_usage(stages.empty(), "data.stages: expected data.weights beside it, got none");
        return;
    }
    check_usage(!stages.empty() || weights.size() == entries,
                "data.weights: expected a weight for each of the {} entries of data.train, got {}",
                entries, weights.size());
    check_usage(weights.size() == entries * (stages.size() + 1),
                "data.weights: expected a weight for each of the {} entries of data.train in each "
                "of {} stages, got {}",
                entries, stages.size() + 1, weights.size());
    for (std::size_t stage = 0; stage <= stages.size(); ++stage) {
        const auto row = std::span(weights).subspan(stage * entries, entries);
        check_usage(std::ranges::any_of(row, [](double w) { return w > 0; }),
                    "data.weights: expected one above 0 in each stage, got none in stage {} of {}",
                    stage + 1, stages.size() + 1);
    }
    for (std::size_t i = 0; i < entries; ++i) {
        bool read = false;
        for (std::size_t k = i; k < weights.size(); k += entries) read |= weights[k] > 0;
        check_usage(read,
                    "data.weights: expected one above 0 for \"{}\", got none\n"
                    "  Take it out of data.train.",
                    data.train[i]);
    }
}

void validate_data(const RunConfig::Data& data) {
    for (const auto& file : data.held_out) {
        check_usage(std::ranges::find(data.train, file) == data.train.end(),
                    "data.held_out: expected files that are not in data.train, got \"{}\"", file);
    }
    validate_mixture(data);
    for (const auto* list : {&data.train, &data.held_out}) {
        check_usage(std::ranges::find(*list, "") == list->end(),
                    "data.{}: expected names of token files, got an empty one",
                    list == &data.train ? "train" : "held_out");
    }
}

}  // namespace

void complete(RunConfig& config) {
    auto& m = config.model;
    if (!m.path.empty()) {
        return;
    }
    if (m.kv_heads == 0) {
        m.kv_heads = m.heads;
    }
    if (m.head_dim == 0) {
        check_usage(m.hidden_size % m.heads == 0,
                    "model.heads: expected a divisor of model.hidden_size ({}), got {}\n"
                    "  Change one of the two, or set model.head_dim.",
                    m.hidden_size, m.heads);
        m.head_dim = m.hidden_size / m.heads;
    }
    if (m.intermediate_size == 0) {
        // A gated layer has three matrices instead of two: 8/3 makes the parameters equal; 64 keeps
        // the matrices friendly to every GEMM.
        m.intermediate_size =
            m.family == "gpt2" ? 4 * m.hidden_size : (8 * m.hidden_size + 191) / 192 * 64;
    }
}

void validate(const RunConfig& config) {
    if (config.model.path.empty()) {
        validate_model(config);
    }
    validate_data(config.data);
    validate_schedule(config.train);
    const auto& c = config.checkpoint;
    check_usage(c.every == 0 || c.keep_every % c.every == 0,
                "checkpoint.keep_every: expected a multiple of checkpoint.every ({}), got {}",
                c.every, c.keep_every);
}

}  // namespace octavo
