#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

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

std::int64_t smallest(std::span<const std::int64_t> rows, std::int64_t needed) {
    return *std::ranges::lower_bound(rows, needed);
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
    check(o.fp8_cache || !o.fp8_attention,
          "attention in FP8 needs keys and values in FP8\n  Ask for such a cache, too.");
    const bool unit_scales = o.fp8_cache && o.calibration == KvCalibration::none;
    check(!unit_scales || has_qk_norm(arch) || o.allow_unit_kv_scale,
          "scales of 1 may not hold the keys of a {} model, which does not normalise them\n  "
          "Let the first prompts calibrate the cache.",
          name(arch.family));
    o.max_batched_tokens = std::min(o.max_batched_tokens, o.max_seqs * o.context);
    return o;
}

// As generation runs it: to cast all weights again for every token would take longer than the
// token, and a token by itself has no channels that factors could be folded into.
Recipe of_generation(Recipe recipe) {
    recipe.cache_weights = true;
    recipe.whole_blocks = true;
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
      scheduler_({.blocks = pool_blocks(),
                  .block = options_.block,
                  .max_batched_tokens = options_.max_batched_tokens,
                  .max_seqs = options_.max_seqs,
                  .prefix_cache = options_.prefix_cache}) {
    compile(program_, cache_form(scheduler_.pool().size()), false);
    program_.allocate(backend.available_bytes());
}

std::int64_t Engine::most_rows() const {
    return std::max(options_.max_batched_tokens, options_.max_seqs);
}

CacheForm Engine::cache_form(std::int64_t blocks) const {
    return {.blocks = blocks,
            .block = options_.block,
            .table = blocks_of(options_.context, options_.block),
            .coded = options_.fp8_cache,
            .fp8_products = options_.fp8_attention,
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

std::int64_t Engine::token_bytes() const {
    const std::int64_t element = options_.fp8_cache ? 1 : std::int64_t(size_of(recipe_.compute));
    return 2 * architecture_.layers * architecture_.kv_heads * architecture_.head_dim * element;
}

std::string Engine::decode_plan(std::int64_t rows) const {
    return plan_name(kDecode, smallest(decode_rows_, rows));
}
std::string Engine::prompt_plan(std::int64_t rows) const {
    return plan_name(kPrompt, smallest(prompt_rows_, rows));
}
std::string Engine::head_plan(std::int64_t rows) const {
    return plan_name(kHead, smallest(head_rows_, rows));
}

// Everything else comes first, of which the writer is taken here, then the cache.
std::int64_t Engine::pool_blocks() {
    Backend& backend = program_.backend();
    Program probe(backend);
    compile(probe, cache_form(1), true);
    std::vector<WorkingWeight> working;
    std::set<std::string> names;
    for (const std::string& plan :
         {prompt_plan(prompt_rows_.back()), head_plan(head_rows_.back())}) {
        for (WorkingWeight& w : working_weights(recipe_, probe.plan(plan).graph())) {
            if (names.insert(w.state).second) working.push_back(std::move(w));
        }
    }
    writer_ = std::make_unique<WeightWriter>(backend, recipe_, parameters(architecture_), working);

    const std::int64_t text = blocks_of(options_.context, options_.block);
    std::int64_t blocks = options_.max_seqs * text;
    if (options_.kv_pool_bytes > 0) {
        blocks = kv_blocks(options_.kv_pool_bytes, token_bytes(), options_.block);
    } else {
        const std::int64_t left = backend.available_bytes() - probe.total_bytes();
        const auto share = static_cast<std::int64_t>(
            static_cast<double>(std::max<std::int64_t>(left, 0)) * options_.memory_fraction);
        blocks = std::min(blocks, kv_blocks(share, token_bytes(), options_.block));
    }
    // Slots are numbered in 32 bits.
    constexpr std::int64_t kMostSlots = std::numeric_limits<std::int32_t>::max();
    blocks = std::min(blocks, kMostSlots / options_.block);
    check(blocks >= text,
          "the cache has room for {} tokens ({:.2f} GB, {} bytes each), and a text may have {}\n"
          "  Give it more memory, or lower the context or the number of tokens in a step.",
          blocks * options_.block,
          static_cast<double>(blocks * options_.block * token_bytes()) * 1e-9, token_bytes(),
          options_.context);
    return blocks;
}

// ---- Weights and scales ------------------------------------------------------------------------

void Engine::check_idle(std::string_view what) const {
    const std::int64_t texts = scheduler_.running() + scheduler_.waiting();
    check(texts == 0, "{}: {} texts are under way\n  Finish or cancel them first.", what, texts);
}

void Engine::load(const WeightSource& source) {
    check_idle("new weights");
    valid_ = false;
    State& state = program_.state();
    // Fresh delayed scales: every cast takes its scale from the tensor it casts.
    initialise_scales(state);
    writer_->write(state, source);
    const float one = 1;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) == "kv.scale") state.write(e.name, &one);
    }
    scheduler_.drop_prefix_cache();
    calibrate_ = options_.fp8_cache && options_.calibration == KvCalibration::engine;
    scaled_ = !options_.fp8_cache || options_.calibration != KvCalibration::given;
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
    check_idle("new scales");
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
    }
    for (std::size_t i = 0; i < scales.size(); ++i) {
        const std::string name = layers[i / 3] + kScaled[i % 3];
        if (state.contains(name)) state.write(name, &scales[i]);
    }
    scheduler_.drop_prefix_cache();
    scaled_ = true;
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
    check(valid_,
          "the engine cannot go on: it has no weights yet, or the last load or step failed\n"
          "  Load weights first.");
    check(scaled_, "the scales of keys and values are not known yet\n  Give them (set_kv_scales).");
    check_options(request.sampling);
    const auto length = std::ssize(request.prompt);
    check(length > 0, "the prompt has no tokens");
    check(request.max_tokens > 0 || (request.max_tokens == 0 && request.score_prompt),
          "expected new tokens to be asked for, or scores of the prompt, got max_tokens {}",
          request.max_tokens);
    check(length <= options_.context && request.max_tokens <= options_.context - length,
          "{} prompt tokens and {} new ones do not fit a context of {} tokens", length,
          request.max_tokens, options_.context);
    for (const std::int32_t id : request.prompt) {
        check(id >= 0 && id < vocabulary(), "prompt token {} is outside the vocabulary of {}", id,
              vocabulary());
    }
    scheduler_.add(++ids_, std::exchange(request.prompt, {}),
                   std::max<std::int64_t>(request.max_tokens, 1), !request.score_prompt);
    texts_[ids_] = {.request = std::move(request), .prompt = length};
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
    check(valid_ || texts_.empty(), "the last step failed\n  Cancel all texts and load weights.");
    std::vector<TokenEvent> events;
    Chunks prompts, decoding;
    std::int64_t prompt_rows = 0;
    // Tokens count as computed from here on; what an exception leaves of them is not known.
    const bool valid = std::exchange(valid_, false);
    for (const Scheduler::Chunk& chunk : scheduler_.step()) {
        const bool decodes =
            chunk.count == 1 && chunk.begin >= texts_.at(chunk.id).prompt && !calibrate_;
        (decodes ? decoding : prompts).push_back(chunk);
        if (!decodes) prompt_rows += chunk.count;
    }
    // Prompts first: what decodes may share blocks that are written only now.
    if (!prompts.empty()) {
        run_body(calibrate_ ? std::string(kCalibrate) : prompt_plan(prompt_rows), prompts, events);
    }
    if (!decoding.empty()) run_body(decode_plan(std::ssize(decoding)), decoding, events);
    valid_ = valid;
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
    std::vector<Wanted> part;  // as many as a head takes, of texts that have not failed before
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (texts_.contains(wanted[i].id)) part.push_back(wanted[i]);
        if (part.empty() || (std::ssize(part) < head_rows_.back() && i + 1 < wanted.size()))
            continue;
        run_head(part, events);
        part.clear();
    }
}

void Engine::want_rows(const Scheduler::Chunk& chunk, std::int64_t first_row,
                       std::vector<Wanted>& wanted, std::vector<TokenEvent>& events) {
    Text& text = texts_.at(chunk.id);
    const TextRequest& request = text.request;
    if (request.score_prompt) {
        if (text.scored == 0) {  // nothing says how likely the first token is
            const bool last = text.prompt == 1 && request.max_tokens == 0;
            events.push_back({.id = chunk.id,
                              .score = {.token = scheduler_.tokens(chunk.id)[0]},
                              .prompt = true,
                              .finish = last ? Finish::length : Finish::none});
            text.scored = 1;
            if (last) return end(chunk.id);
        }
        for (std::int64_t i = 0; i < chunk.count; ++i) {
            const std::int64_t next = chunk.begin + i + 1;
            if (next < text.scored || next >= text.prompt) continue;
            wanted.push_back({chunk.id, first_row + i, next});
        }
    }
    if (chunk.samples && request.max_tokens > 0) {
        wanted.push_back(
            {chunk.id, first_row + chunk.count - 1, std::ssize(scheduler_.tokens(chunk.id))});
    }
}

namespace {

// Ids that are tokens, of so many.
std::int64_t token_count(const SampleOptions& o, std::int64_t vocabulary) {
    return o.vocabulary > 0 ? std::min(o.vocabulary, vocabulary) : vocabulary;
}

}  // namespace

// Beside the log-probability that comes with a token: for alternatives, or because the model's own
// is asked for and the token is drawn from another distribution.
bool Engine::wants_logits(const Wanted& wanted) const {
    const Text& text = texts_.at(wanted.id);
    const std::optional<std::int64_t> top = text.request.logprobs;
    if (!top || *top > 0) return top.has_value();
    const SampleOptions& o = text.request.sampling;
    return wanted.position >= text.prompt && o.temperature != 0 &&
           (o.temperature != 1 || o.top_k != 0 || o.top_p != 1);
}

void Engine::run_head(std::span<const Wanted> wanted, std::vector<TokenEvent>& events) {
    const std::string name = head_plan(std::ssize(wanted));
    const auto n = static_cast<std::size_t>(smallest(head_rows_, std::ssize(wanted)));
    std::vector<std::int32_t> rows(n, 0), integers;
    std::vector<float> reals;
    bool logits_wanted = false;
    for (const Wanted& w : wanted) {
        const Text& text = texts_.at(w.id);
        const SampleOptions& o = text.request.sampling;
        const auto tokens = static_cast<std::int32_t>(token_count(o, vocabulary()));
        rows[integers.size() / 4] = static_cast<std::int32_t>(w.row);
        if (w.position < text.prompt) {  // scored by the model's own distribution
            reals.insert(reals.end(), {1, 1});
            integers.insert(
                integers.end(),
                {0, tokens, 0, scheduler_.tokens(w.id)[static_cast<std::size_t>(w.position)]});
        } else {
            reals.insert(reals.end(),
                         {static_cast<float>(o.temperature), static_cast<float>(o.top_p)});
            const std::uint32_t bits =
                sample_bits(o.seed, text.request.sequence, text.request.sample,
                            static_cast<std::uint32_t>(w.position - text.prompt));
            integers.insert(integers.end(),
                            {static_cast<std::int32_t>(std::min(o.top_k, vocabulary())), tokens,
                             static_cast<std::int32_t>(bits), -1});
        }
        logits_wanted |= wants_logits(w);
    }
    for (std::size_t i = wanted.size(); i < n; ++i) {
        reals.insert(reals.end(), {0, 1});
        integers.insert(integers.end(), {0, static_cast<std::int32_t>(vocabulary()), 0, -1});
    }
    program_.write_input(name, "rows", rows.data());
    program_.write_input(name, "reals", reals.data());
    program_.write_input(name, "integers", integers.data());
    program_.run(name);
    std::vector<std::int32_t> tokens(n);
    std::vector<float> logprobs(n), logits;
    program_.read_output(name, "tokens", tokens.data());
    program_.read_output(name, "logprobs", logprobs.data());
    const auto columns = static_cast<std::size_t>(vocabulary());
    if (logits_wanted) {
        logits.resize(n * columns);
        program_.read_output(name, "logits", logits.data());
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const auto text = texts_.find(wanted[i].id);
        if (text == texts_.end()) continue;  // it failed at a row before
        std::span<const float> row;
        if (wants_logits(wanted[i])) row = std::span(logits).subspan(i * columns, columns);
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
    // A prompt may hold ids that are padding: what they are scored with stays.
    if (score.token < std::ssize(logits)) {
        score.logprob = static_cast<float>(logits[static_cast<std::size_t>(score.token)] - sum);
    }
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
            const std::int64_t tokens = token_count(request.sampling, vocabulary());
            score(logits.first(static_cast<std::size_t>(tokens)), *request.logprobs, event.score);
        }
    }
    if (wanted.position < text.prompt) {
        event.prompt = true;
        text.scored = wanted.position + 1;
        if (text.scored == text.prompt && request.max_tokens == 0) event.finish = Finish::length;
        return event;
    }
    if (std::ranges::find(request.stop_tokens, token) != request.stop_tokens.end()) {
        event.finish = Finish::stop;
    } else if (wanted.position + 1 - text.prompt == request.max_tokens) {
        event.finish = Finish::length;
    }
    return event;
}

}  // namespace octavo
