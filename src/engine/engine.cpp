#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/sample.h"

namespace octavo {
namespace {

// Rows that plans are made for: a step takes the smallest that holds its own.
std::vector<std::int64_t> powers_of_two(std::int64_t from, std::int64_t most) {
    std::vector<std::int64_t> rows;
    for (std::int64_t n = std::min(from, most); n < most; n *= 2) rows.push_back(n);
    rows.push_back(most);
    return rows;
}

std::int64_t smallest(std::span<const std::int64_t> rows, std::size_t needed) {
    return *std::ranges::lower_bound(rows, static_cast<std::int64_t>(needed));
}

std::string plan_name(std::string_view kind, std::int64_t rows) {
    return fmt::format("{} {}", kind, rows);
}

constexpr std::string_view kDecode = "decode", kPrompt = "prompt", kHead = "head",
                           kCalibrate = "calibrate";
constexpr std::int64_t kMostHeadRows = 256;  // that read the head's weight once

std::int64_t blocks_of(std::int64_t tokens, std::int64_t block) {
    return (tokens + block - 1) / block;
}

EngineOptions checked(EngineOptions o, const Architecture& arch) {
    if (o.context == 0) o.context = arch.max_positions;
    check(o.context > 0 && o.context <= arch.max_positions,
          "a text of {} tokens does not fit the model's {} positions\n  Ask for fewer tokens or "
          "shorten the prompt.",
          o.context, arch.max_positions);
    check(o.max_seqs > 0 && o.max_batched_tokens > 0 && o.block > 0,
          "expected at least one text, token and slot a block, got {}, {} and {}", o.max_seqs,
          o.max_batched_tokens, o.block);
    check(o.memory_fraction > 0 && o.memory_fraction <= 1,
          "expected a memory fraction in (0, 1], got {}", o.memory_fraction);
    o.max_batched_tokens = std::min(o.max_batched_tokens, o.max_seqs * o.context);
    return o;
}

// As generation runs it: to cast all weights again for every token would take longer than the
// token, and a token by itself has no channels that factors could be folded into.
Recipe of_generation(Recipe recipe) {
    recipe.cache_weights = true;
    if (recipe.smooth) recipe.smooth->axis = Axis::row;
    return recipe;
}

// log of the sum of exp.
double log_sum(std::span<const float> logits) {
    const double largest = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - largest);
    return largest + std::log(sum);
}

}  // namespace

Engine::Engine(Backend& backend, const Architecture& arch, const Recipe& recipe,
               EngineOptions options)
    : architecture_(arch),
      recipe_(of_generation(recipe)),
      options_(checked(options, arch)),
      decode_rows_(powers_of_two(1, options_.max_seqs)),
      prompt_rows_(powers_of_two(16, options_.max_batched_tokens)),
      head_rows_(powers_of_two(1, std::min(kMostHeadRows, most_rows()))),
      program_(backend),
      scheduler_({.blocks = pool_blocks(backend),
                  .block = options_.block,
                  .max_batched_tokens = options_.max_batched_tokens,
                  .max_seqs = options_.max_seqs,
                  .prefix_cache = options_.prefix_cache}) {
    compile(program_, cache_form(scheduler_.pool().size()), false);
    program_.allocate(backend.available_bytes());
    std::set<std::string> names;
    for (const std::string& plan :
         {plan_name(kPrompt, prompt_rows_.back()), plan_name(kHead, head_rows_.back())}) {
        for (WorkingWeight& w : working_weights(recipe_, program_.plan(plan).graph())) {
            if (names.insert(w.state).second) working_.push_back(std::move(w));
        }
    }
}

std::int64_t Engine::most_rows() const {
    return std::max(options_.max_batched_tokens, options_.max_seqs);
}

CacheForm Engine::cache_form(std::int64_t blocks) const {
    return {.blocks = blocks,
            .block = options_.block,
            .table = blocks_of(options_.context, options_.block),
            .coded = options_.fp8_cache,
            .ranges = options_.ranges};
}

void Engine::compile(Program& program, const CacheForm& form, bool largest_only) const {
    const Target target = program.backend().target();
    const auto each = [&](std::span<const std::int64_t> rows, auto&& add) {
        for (const std::int64_t n : largest_only ? rows.last(1) : rows) add(n);
    };
    each(decode_rows_, [&](std::int64_t n) {
        program.add(plan_name(kDecode, n),
                    body_graph(architecture_, recipe_, n, 1, n, form, false, target));
    });
    each(prompt_rows_, [&](std::int64_t n) {
        program.add(plan_name(kPrompt, n), body_graph(architecture_, recipe_, 1, n,
                                                      options_.max_seqs, form, false, target));
    });
    each(head_rows_, [&](std::int64_t n) {
        program.add(plan_name(kHead, n),
                    head_graph(architecture_, recipe_, n, most_rows(), target));
    });
    if (form.coded && options_.calibration == KvCalibration::engine) {
        program.add(std::string(kCalibrate),
                    body_graph(architecture_, recipe_, 1, prompt_rows_.back(), options_.max_seqs,
                               form, true, target));
    }
}

// Everything else comes first, then the cache.
std::int64_t Engine::pool_blocks(Backend& backend) const {
    const std::int64_t element = options_.fp8_cache ? 1 : std::int64_t(size_of(recipe_.compute));
    const std::int64_t token_bytes =
        2 * architecture_.layers * architecture_.kv_heads * architecture_.head_dim * element;
    const std::int64_t text = blocks_of(options_.context, options_.block);
    std::int64_t blocks = options_.max_seqs * text;
    if (options_.kv_pool_bytes > 0) {
        blocks = kv_blocks(options_.kv_pool_bytes, token_bytes, options_.block);
    } else {
        Program probe(backend);
        compile(probe, cache_form(1), true);
        const std::int64_t left = backend.available_bytes() - probe.total_bytes();
        const auto share = static_cast<std::int64_t>(
            static_cast<double>(std::max<std::int64_t>(left, 0)) * options_.memory_fraction);
        blocks = std::min(blocks, kv_blocks(share, token_bytes, options_.block));
    }
    check(blocks >= text,
          "the cache has room for {} tokens ({:.2f} GB, {} bytes each), and a text may have {}\n"
          "  Give it more memory, or lower the context or the number of tokens in a step.",
          blocks * options_.block,
          static_cast<double>(blocks * options_.block * token_bytes) * 1e-9, token_bytes,
          options_.context);
    return blocks;
}

std::int64_t Engine::cache_bytes() const {
    for (const auto& [role, bytes] : program_.state().bytes_by_role()) {
        if (role == "kv") return bytes;
    }
    return 0;
}

// ---- Weights and scales ------------------------------------------------------------------------

void Engine::load(const WeightSource& source) {
    check(scheduler_.running() + scheduler_.waiting() == 0,
          "new weights: {} texts are under way\n  Finish or cancel them first.",
          scheduler_.running() + scheduler_.waiting());
    valid_ = false;
    State& state = program_.state();
    // Fresh delayed scales: every cast takes its scale from the tensor it casts.
    initialise_scales(state);
    write_weights(program_.backend(), recipe_, parameters(architecture_), working_, state, source);
    const float one = 1;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) == "kv.scale") state.write(e.name, &one);
    }
    scheduler_.drop_prefix_cache();
    calibrate_ = options_.fp8_cache && options_.calibration == KvCalibration::engine;
    ++version_;
    valid_ = true;
}

namespace {

// "kv.scale/model.layers.3.self_attn.": the first part of the names of a layer's scales.
std::vector<std::string> scale_names(const State& state) {
    std::vector<std::string> names;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) == "kv.scale" && e.name.ends_with(".k")) {
            names.push_back(e.name.substr(0, e.name.size() - 1));
        }
    }
    return names;
}

constexpr std::string_view kScaled = "qkv";

}  // namespace

void Engine::set_kv_scales(std::span<const float> scales) {
    State& state = program_.state();
    const std::vector<std::string> layers = scale_names(state);
    check(options_.calibration == KvCalibration::given && !layers.empty(),
          "scales of keys and values were given, but the engine does not take any");
    check(scales.size() == layers.size() * kScaled.size(),
          "expected {} scales of keys and values for {} layers, got {}",
          layers.size() * kScaled.size(), layers.size(), scales.size());
    for (std::size_t i = 0; i < scales.size(); ++i) {
        check(std::isfinite(scales[i]) && scales[i] > 0,
              "the scale of {} in layer {} is {}\n  Scales are finite and above zero.",
              kScaled[i % 3], i / 3, scales[i]);
        const std::string name = layers[i / 3] + kScaled[i % 3];
        if (state.contains(name)) state.write(name, &scales[i]);
    }
}

std::vector<float> Engine::kv_scales() const {
    const State& state = program_.state();
    std::vector<float> scales;
    for (const std::string& layer : scale_names(state)) {
        for (const char which : kScaled) {
            scales.push_back(1);
            if (state.contains(layer + which)) state.read(layer + which, &scales.back());
        }
    }
    return scales;
}

// ---- Texts -------------------------------------------------------------------------------------

std::uint64_t Engine::submit(TextRequest request) {
    check(valid_, "the engine has no weights\n  Load them again: the last attempt failed.");
    check_options(request.sampling);
    const auto length = std::ssize(request.prompt);
    check(length > 0, "the prompt has no tokens");
    check(length + request.max_tokens <= options_.context,
          "{} prompt tokens and {} new ones do not fit a context of {} tokens", length,
          request.max_tokens, options_.context);
    for (const std::int32_t id : request.prompt) {
        check(id >= 0 && id < vocabulary(), "prompt token {} is outside the vocabulary of {}", id,
              vocabulary());
    }
    scheduler_.add(++ids_, request.prompt, std::max<std::int64_t>(request.max_tokens, 1),
                   !request.score_prompt);
    texts_[ids_] = {.request = std::move(request)};
    return ids_;
}

void Engine::cancel(std::uint64_t id) {
    if (texts_.contains(id)) end(id);
}

void Engine::end(std::uint64_t id) {
    scheduler_.finish(id);
    texts_.erase(id);
}

std::vector<TokenEvent> Engine::step() {
    std::vector<TokenEvent> events;
    Chunks prompts, decoding;
    for (const Scheduler::Chunk& chunk : scheduler_.step()) {
        const auto prompt = std::ssize(texts_.at(chunk.id).request.prompt);
        const bool decodes = chunk.count == 1 && chunk.begin >= prompt && !calibrate_;
        (decodes ? decoding : prompts).push_back(chunk);
    }
    // Prompts first: what decodes may share blocks that are written only now.
    if (!prompts.empty()) {
        std::int64_t rows = 0;
        for (const Scheduler::Chunk& chunk : prompts) rows += chunk.count;
        run_body(calibrate_ ? std::string(kCalibrate)
                            : plan_name(kPrompt, smallest(prompt_rows_, std::size_t(rows))),
                 prompts, events);
    }
    if (!decoding.empty()) {
        run_body(plan_name(kDecode, smallest(decode_rows_, decoding.size())), decoding, events);
    }
    return events;
}

// All rows of the chunks in one forward, then what is wanted of them.
void Engine::run_body(const std::string& name, const Chunks& chunks,
                      std::vector<TokenEvent>& events) {
    const Plan& plan = program_.plan(name);
    const auto rows = static_cast<std::size_t>(plan.input("ids").type.shape.elements());
    const Shape table_shape = plan.input("tables").type.shape;
    std::vector<std::int32_t> ids(rows, 0), positions(rows, -1), slots(rows, -1),
        sequences(rows, 0), tables(static_cast<std::size_t>(table_shape.elements()), 0);
    std::size_t row = 0;
    for (std::size_t c = 0; c < chunks.size(); ++c) {
        const std::span<const std::int32_t> tokens = scheduler_.tokens(chunks[c].id);
        const std::span<const std::int32_t> blocks = scheduler_.blocks(chunks[c].id);
        std::ranges::copy(blocks, tables.begin() + static_cast<std::ptrdiff_t>(c) * table_shape[1]);
        for (std::int64_t i = 0; i < chunks[c].count; ++i, ++row) {
            const std::int64_t p = chunks[c].begin + i;
            ids[row] = tokens[static_cast<std::size_t>(p)];
            positions[row] = static_cast<std::int32_t>(p);
            const std::int32_t block = blocks[static_cast<std::size_t>(p / options_.block)];
            slots[row] = static_cast<std::int32_t>(block * options_.block + p % options_.block);
            sequences[row] = static_cast<std::int32_t>(c);
        }
    }
    if (calibrate_) {
        // Unused rows repeat the first one, so that the maxima are those of real tokens.
        for (; row < rows; ++row) {
            ids[row] = ids[0];
            positions[row] = positions[0];
        }
    }
    program_.write_input(name, "ids", ids.data());
    program_.write_input(name, "positions", positions.data());
    program_.write_input(name, "slots", slots.data());
    program_.write_input(name, "sequences", sequences.data());
    program_.write_input(name, "tables", tables.data());
    program_.run(name);
    if (calibrate_) {
        calibrate_ = false;
        for (const float scale : kv_scales()) {
            check(std::isfinite(scale), "calibration of the cache: a key or value is not finite");
        }
    }
    const TensorRef& hidden = plan.output("hidden");
    program_.backend().copy(program_.state().tensor(kHiddenRows).as<std::byte>(),
                            hidden.as<std::byte>(), data_bytes(hidden.type));

    std::vector<Wanted> wanted;
    std::int64_t first = 0;
    for (const Scheduler::Chunk& chunk : chunks) {
        want_rows(chunk, first, wanted, events);
        first += chunk.count;
    }
    std::span<const Wanted> left = wanted;
    while (!left.empty()) {
        const auto n = std::min(left.size(), static_cast<std::size_t>(head_rows_.back()));
        run_head(left.first(n), events);
        left = left.subspan(n);
    }
}

void Engine::want_rows(const Scheduler::Chunk& chunk, std::int64_t first_row,
                       std::vector<Wanted>& wanted, std::vector<TokenEvent>& events) {
    Text& text = texts_.at(chunk.id);
    const TextRequest& request = text.request;
    const auto prompt = std::ssize(request.prompt);
    if (request.score_prompt) {
        if (text.scored == 0) {  // nothing says how likely the first token is
            const bool last = prompt == 1 && request.max_tokens == 0;
            events.push_back({.id = chunk.id,
                              .score = {.token = request.prompt[0]},
                              .prompt = true,
                              .finish = last ? Finish::length : Finish::none});
            text.scored = 1;
            if (last) return end(chunk.id);
        }
        for (std::int64_t i = 0; i < chunk.count; ++i) {
            const std::int64_t next = chunk.begin + i + 1;
            if (next < text.scored || next >= prompt) continue;
            wanted.push_back({chunk.id, first_row + i, next});
        }
    }
    if (chunk.samples && request.max_tokens > 0) {
        wanted.push_back({chunk.id, first_row + chunk.count - 1, prompt + text.generated});
    } else if (chunk.samples && !request.score_prompt) {
        end(chunk.id);  // nothing was asked for
    }
}

void Engine::run_head(std::span<const Wanted> wanted, std::vector<TokenEvent>& events) {
    const std::int64_t width = smallest(head_rows_, wanted.size());
    const std::string name = plan_name(kHead, width);
    const auto n = static_cast<std::size_t>(width);
    const auto all = static_cast<std::int32_t>(vocabulary());
    std::vector<std::int32_t> rows(n, 0), integers;
    std::vector<float> reals;
    bool logits_wanted = false;
    for (std::size_t i = 0; i < n; ++i) {
        if (i >= wanted.size()) {
            reals.insert(reals.end(), {0, 1});
            integers.insert(integers.end(), {0, all, 0, -1});
            continue;
        }
        const Wanted& w = wanted[i];
        const TextRequest& request = texts_.at(w.id).request;
        const SampleOptions& o = request.sampling;
        const auto tokens =
            o.vocabulary > 0 ? static_cast<std::int32_t>(std::min<std::int64_t>(o.vocabulary, all))
                             : all;
        rows[i] = static_cast<std::int32_t>(w.row);
        const auto prompt = std::ssize(request.prompt);
        const bool plain =
            o.temperature == 0 || (o.temperature == 1 && o.top_k == 0 && o.top_p == 1);
        if (w.position < prompt) {  // scored by the model's own distribution
            reals.insert(reals.end(), {1, 1});
            integers.insert(integers.end(),
                            {0, tokens, 0, request.prompt[static_cast<std::size_t>(w.position)]});
            logits_wanted |= request.logprobs.value_or(0) > 0;
        } else {
            reals.insert(reals.end(),
                         {static_cast<float>(o.temperature), static_cast<float>(o.top_p)});
            const std::uint32_t bits = sample_bits(o.seed, request.sequence, request.sample,
                                                   static_cast<std::uint32_t>(w.position - prompt));
            integers.insert(integers.end(),
                            {static_cast<std::int32_t>(std::min<std::int64_t>(o.top_k, all)),
                             tokens, static_cast<std::int32_t>(bits), -1});
            logits_wanted |= request.logprobs && (*request.logprobs > 0 || !plain);
        }
    }
    program_.write_input(name, "rows", rows.data());
    program_.write_input(name, "reals", reals.data());
    program_.write_input(name, "integers", integers.data());
    program_.run(name);
    std::vector<std::int32_t> tokens(n);
    std::vector<float> logprobs(n), logits;
    program_.read_output(name, "tokens", tokens.data());
    program_.read_output(name, "logprobs", logprobs.data());
    if (logits_wanted) {
        logits.resize(n * static_cast<std::size_t>(all));
        program_.read_output(name, "logits", logits.data());
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const auto text = texts_.find(wanted[i].id);
        if (text == texts_.end()) continue;  // it failed at a row before
        std::span<const float> row;
        if (logits_wanted) {
            row = std::span<const float>(logits).subspan(i * static_cast<std::size_t>(all),
                                                         static_cast<std::size_t>(all));
        }
        events.push_back(finish_token(text->second, wanted[i], tokens[i], logprobs[i], row));
        if (events.back().finish != Finish::none) {
            end(wanted[i].id);
        } else if (!events.back().prompt) {
            scheduler_.append(wanted[i].id, tokens[i]);
        }
    }
}

namespace {

// Of the model's own distribution over the ids that are tokens.
void score(std::span<const float> logits, std::int64_t count, TokenScore& score) {
    const double sum = log_sum(logits);
    score.logprob = static_cast<float>(logits[static_cast<std::size_t>(score.token)] - sum);
    std::vector<std::int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    const auto n = std::min<std::ptrdiff_t>(count, std::ssize(order));
    std::partial_sort(order.begin(), order.begin() + n, order.end(),
                      [&](std::int32_t a, std::int32_t b) {
                          return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
                      });
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        score.top.emplace_back(order[i], static_cast<float>(logits[order[i]] - sum));
    }
}

}  // namespace

TokenEvent Engine::finish_token(Text& text, const Wanted& wanted, std::int32_t token, float logprob,
                                std::span<const float> logits) {
    const TextRequest& request = text.request;
    const auto prompt = std::ssize(request.prompt);
    TokenEvent event{.id = wanted.id, .score = {.token = token}, .drawn_logprob = logprob};
    if (token < 0) {
        event.finish = Finish::failed;
        event.error = fmt::format(
            "the logits after {} tokens are not finite\n  The weights are damaged, or the recipe's "
            "formats do not hold the activations.",
            wanted.position);
        return event;
    }
    if (request.logprobs) {
        event.score.logprob = logprob;
        if (!logits.empty()) {
            const std::int64_t tokens = request.sampling.vocabulary;
            if (tokens > 0 && tokens < std::ssize(logits)) {
                logits = logits.first(static_cast<std::size_t>(tokens));
            }
            score(logits, *request.logprobs, event.score);
        }
    }
    if (wanted.position < prompt) {
        event.prompt = true;
        text.scored = wanted.position + 1;
        if (text.scored == prompt && request.max_tokens == 0) event.finish = Finish::length;
        return event;
    }
    ++text.generated;
    if (std::ranges::find(request.stop_tokens, token) != request.stop_tokens.end()) {
        event.finish = Finish::stop;
    } else if (text.generated == request.max_tokens) {
        event.finish = Finish::length;
    }
    return event;
}

}  // namespace octavo
