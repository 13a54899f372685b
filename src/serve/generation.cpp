#include "serve/generation.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace octavo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kGoneCheck{100};
constexpr std::int64_t kDefaultTokens = 16;  // of completions, as OpenAI has it

const char* reason(Finish finish) {
    return finish == Finish::stop ? "stop" : finish == Finish::length ? "length" : nullptr;
}

}  // namespace

EncodedPrompt encode(const ServedModel& model, const Prompt& prompt) {
    if (const auto* ids = std::get_if<std::vector<std::int32_t>>(&prompt)) {
        for (const std::int32_t id : *ids) {
            if (id >= model.tokenizer->vocabulary()) {
                refuse("prompt", "token id {} is outside the vocabulary of {}", id,
                       model.tokenizer->vocabulary());
            }
            if (!model.tokenizer->is_token(id)) {
                refuse("prompt", "the id {} is no token, though below {}", id,
                       model.tokenizer->vocabulary());
            }
        }
        return {*ids, valid_utf8(model.tokenizer->decode(*ids))};
    }
    const auto& text = std::get<std::string>(prompt);
    EncodedPrompt encoded{prompt_ids(*model.tokenizer, text, model.after_end_of_text), text};
    encoded.before = text.empty() ? encoded.ids.size()
                                  : prompt_begin(*model.tokenizer, model.after_end_of_text).size();
    if (encoded.ids.empty()) {
        refuse("prompt", "expected a text, this tokenizer gives an empty one no token");
    }
    return encoded;
}

void Generation::reserve(std::size_t count) {
    const EngineLimits& limits = engine_.limits();
    const std::int64_t texts = static_cast<std::int64_t>(count) * request.n;
    if (texts > limits.max_texts) {
        refuse("n", "this server works on at most {} texts at once, got {} prompts of n = {}",
               limits.max_texts, count, request.n);
    }
    if (request.logprobs.value_or(0) > limits.max_logprobs) {
        refuse(head.chat ? "top_logprobs" : "logprobs", "expected at most {}, got {}",
               limits.max_logprobs, *request.logprobs);
    }
    if (scores() && !limits.scores_prompts) {
        refuse("echo", "this engine does not score prompts; leave out \"logprobs\"");
    }
    job_ = engine_.reserve(texts);
    if (!job_) {
        throw ApiError(429, "the server has as many texts waiting as it takes; try again", "",
                       "rate_limit_exceeded");
    }
}

// Of each prompt's texts at most. What is not asked for is cut to what fits.
std::vector<std::int64_t> Generation::new_tokens(std::int64_t max_reply) const {
    const std::int64_t weight = 1 + request.logprobs.value_or(0);
    const std::int64_t share = max_reply / (std::ssize(prompts) * request.n * weight);
    std::vector<std::int64_t> counts;
    std::int64_t all = 0;
    for (const EncodedPrompt& prompt : prompts) {
        const auto length = std::ssize(prompt.ids), room = engine_.limits().context - length;
        const auto shown = echo_ ? length : 0;
        const auto fits = std::min({room, share - shown, head.chat ? room : kDefaultTokens});
        const auto most = request.max_tokens.value_or(std::max<std::int64_t>(1, fits));
        if (most > room) {
            throw ApiError(400,
                           fmt::format("this model takes texts of at most {} tokens; the prompt "
                                       "has {}, and {} more were asked for",
                                       engine_.limits().context, length, most),
                           head.chat ? "messages" : "prompt", "context_length_exceeded");
        }
        counts.push_back(most);
        all += request.n * weight * (shown + most);
    }
    if (all > max_reply) {
        refuse(
            "max_tokens",
            "a reply may have {} tokens here, each counted once more for every likely one listed "
            "beside it; with n and all prompts {} were asked for",
            max_reply, all);
    }
    return counts;
}

void Generation::submit(std::chrono::milliseconds time_limit, std::int64_t max_reply,
                        std::uint64_t seed, const std::vector<std::int32_t>& stop_tokens) {
    const std::vector<std::int64_t> most = new_tokens(max_reply);
    std::vector<TextRequest> orders;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
        usage_.prompt_tokens += std::ssize(prompts[p].ids);
        for (std::int64_t i = 0; i < request.n; ++i) {
            TextRequest order{.prompt = prompts[p].ids,
                              .max_tokens = most[p],
                              .sampling = request.sampling,
                              .sequence = p,
                              .sample = static_cast<std::uint32_t>(i),
                              .stop_tokens = stop_tokens,
                              .logprobs = request.logprobs,
                              .score_prompt = scores()};
            order.sampling.seed = request.seed.value_or(seed);
            order.sampling.vocabulary =
                std::min<std::int64_t>(model_.tokenizer->vocabulary(), engine_.limits().vocabulary);
            orders.push_back(std::move(order));
            texts_.push_back({.shown = TextStream(request.stop), .prompt = p});
        }
    }
    job_->start(std::move(orders));
    deadline_ = Clock::now() + time_limit;
}

std::optional<Choice> Generation::next(const std::function<bool()>& gone) {
    if (begun_ < texts_.size()) return begin(begun_++);
    while (!over()) {
        if (const auto now = Clock::now(); now >= look_) {  // also while tokens come
            look_ = now + kGoneCheck;
            if (gone()) throw ApiError(503, "the client or the server is about to end");
            if (now > deadline_) throw ApiError(503, "the request took too long", "", "timeout");
        }
        if (auto event = job_->next(kGoneCheck)) {
            if (!texts_[event->id].over) return take(std::move(*event));
            // Else it came while its text was being cancelled.
        }
    }
    return std::nullopt;
}

Choice Generation::begin(std::uint64_t index) {
    Choice choice{.index = index, .opens = true};
    if (echo_) choice.text = prompts[texts_[index].prompt].text;
    if (request.logprobs) choice.logprobs.emplace();
    return choice;
}

Choice Generation::take(TokenEvent event) {
    Choice choice{.index = event.id};
    if (request.logprobs) choice.logprobs.emplace();
    Text& text = texts_[event.id];
    text.over = event.finish != Finish::none;
    if (event.finish == Finish::failed) throw ApiError(500, event.error);
    choice.finish_reason = reason(event.finish);
    if (event.prompt) {
        const bool hidden = text.at++ < prompts[text.prompt].before;
        if (request.logprobs) choice.logprobs->push_back(show(text, event.score, hidden));
        return choice;
    }
    ++usage_.completion_tokens;
    if (event.finish != Finish::stop) {
        choice.text = text.shown.push(bytes_of(event.score.token));
        if (request.logprobs) choice.logprobs->push_back(show(text, event.score, false));
    }
    if (text.shown.stopped()) {
        if (!text.over) job_->cancel(event.id);
        text.over = true;
        choice.finish_reason = "stop";
    } else if (text.over) {
        choice.text += text.shown.finish();
        if (text.shown.stopped()) choice.finish_reason = "stop";
    }
    return choice;
}

// Nothing of an id that is no token, which a model may still draw.
std::string_view Generation::bytes_of(std::int32_t token) const {
    return model_.tokenizer->is_token(token) ? model_.tokenizer->bytes(token) : std::string_view();
}

ShownToken Generation::show(Text& text, const TokenScore& score, bool hidden) {
    ShownToken shown{.bytes = std::string(bytes_of(score.token)),
                     .offset = text.offset,
                     .logprob = score.logprob};
    for (const auto& [token, logprob] : score.top) {
        if (model_.tokenizer->is_token(token)) {
            shown.top.emplace_back(model_.tokenizer->bytes(token), logprob);
        }
    }
    if (!hidden) {
        TextStream characters;
        text.pending += shown.bytes;
        const std::string whole = characters.push(text.pending);
        text.offset += count_characters(whole);
        text.pending = text.pending.substr(text.pending.size() - unfinished_bytes(text.pending));
    }
    return shown;
}

}  // namespace octavo
