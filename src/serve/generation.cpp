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

void Generation::submit(std::chrono::milliseconds time_limit, std::uint64_t seed,
                        const std::vector<std::int32_t>& stop_tokens) {
    const EngineLimits& limits = engine_.limits();
    const auto count = std::ssize(prompts) * request.n;
    if (count > limits.max_texts) {
        refuse("n", "this server works on at most {} texts at once, got {} prompts of n = {}",
               limits.max_texts, prompts.size(), request.n);
    }
    if (request.logprobs.value_or(0) > limits.max_logprobs) {
        refuse(head.chat ? "top_logprobs" : "logprobs", "expected at most {}, got {}",
               limits.max_logprobs, *request.logprobs);
    }
    const bool scores = echo_ && (request.logprobs || request.max_tokens == 0);
    if (scores && !limits.scores_prompts) {
        refuse("echo", "this engine does not score prompts; leave out \"logprobs\"");
    }
    std::vector<TextRequest> orders;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
        const auto length = std::ssize(prompts[p].ids), room = limits.context - length;
        const std::int64_t most = request.max_tokens.value_or(
            std::max<std::int64_t>(1, head.chat ? room : std::min(room, kDefaultTokens)));
        if (most > room) {
            throw ApiError(400,
                           fmt::format("this model takes texts of at most {} tokens; the prompt "
                                       "has {}, and {} more were asked for",
                                       limits.context, length, most),
                           head.chat ? "messages" : "prompt", "context_length_exceeded");
        }
        usage_.prompt_tokens += length;
        for (std::int64_t i = 0; i < request.n; ++i) {
            TextRequest order{.prompt = prompts[p].ids,
                              .max_tokens = most,
                              .sampling = request.sampling,
                              .sequence = p,
                              .sample = static_cast<std::uint32_t>(i),
                              .stop_tokens = stop_tokens,
                              .logprobs = request.logprobs,
                              .score_prompt = scores};
            order.sampling.seed = request.seed.value_or(seed);
            order.sampling.vocabulary =
                std::min<std::int64_t>(model_.tokenizer->vocabulary(), limits.vocabulary);
            orders.push_back(std::move(order));
            texts_.push_back({.shown = TextStream(request.stop), .prompt = p});
        }
    }
    job_ = engine_.submit(std::move(orders));
    if (!job_) {
        throw ApiError(429, "the server has as many texts waiting as it takes; try again", "",
                       "rate_limit_exceeded");
    }
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
        choice.text = text.shown.push(model_.tokenizer->bytes(event.score.token));
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

ShownToken Generation::show(Text& text, const TokenScore& score, bool hidden) {
    ShownToken shown{.bytes = std::string(model_.tokenizer->bytes(score.token)),
                     .offset = text.offset,
                     .logprob = score.logprob};
    for (const auto& [token, logprob] : score.top) {
        if (token < model_.tokenizer->vocabulary()) {
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
