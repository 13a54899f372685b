#include "serve/generator_engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace octavo {
namespace {

// log of the sum of exp.
double log_sum(std::span<const float> logits) {
    const double largest = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - largest);
    return largest + std::log(sum);
}

}  // namespace

GeneratorEngine::GeneratorEngine(std::unique_ptr<Generator> generator, std::int64_t context,
                                 std::int64_t vocabulary)
    : generator_(std::move(generator)), context_(context), vocabulary_(vocabulary) {}

std::uint64_t GeneratorEngine::submit(TextRequest request) {
    queue_.push_back({.id = ++ids_, .request = std::move(request)});
    return ids_;
}

void GeneratorEngine::cancel(std::uint64_t id) {
    std::erase_if(queue_, [&](const Text& text) { return text.id == id; });
}

// Of the model's own distribution, whatever the temperature, as OpenAI has it.
TokenScore GeneratorEngine::score(std::int32_t token, const TextRequest& request) const {
    TokenScore score{.token = token};
    if (!request.logprobs) return score;
    const auto tokens = request.sampling.vocabulary > 0
                            ? logits_.first(static_cast<std::size_t>(request.sampling.vocabulary))
                            : logits_;
    const double sum = log_sum(tokens);
    const auto logprob = [&](std::int32_t id) { return static_cast<float>(logits_[id] - sum); };
    score.logprob = logprob(token);
    std::vector<std::int32_t> order(tokens.size());
    std::iota(order.begin(), order.end(), 0);
    const auto count = std::min<std::ptrdiff_t>(*request.logprobs, std::ssize(order));
    std::partial_sort(order.begin(), order.begin() + count, order.end(),
                      [&](std::int32_t a, std::int32_t b) {
                          return tokens[a] != tokens[b] ? tokens[a] > tokens[b] : a < b;
                      });
    for (std::ptrdiff_t i = 0; i < count; ++i) score.top.emplace_back(order[i], logprob(order[i]));
    return score;
}

void GeneratorEngine::feed_prompt(Text& text, std::vector<TokenEvent>& events) {
    const std::span<const std::int32_t> prompt = text.request.prompt;
    if (!text.request.score_prompt) {
        const auto n = std::min(prompt.size() - text.fed,
                                static_cast<std::size_t>(generator_->prompt_chunk()));
        logits_ = generator_->feed(prompt.subspan(text.fed, n), std::int64_t(text.fed));
        text.fed += n;
        return;
    }
    // Token by token: the generator has the logits of the last one only.
    const std::int32_t token = prompt[text.fed];
    TokenEvent event{.id = text.id, .score = {.token = token}, .prompt = true};
    if (text.fed > 0) event.score = score(token, text.request);
    const bool last = text.fed + 1 == prompt.size() && text.request.max_tokens == 0;
    if (last) {
        event.finish = Finish::length;
    } else {
        logits_ = generator_->feed({&token, 1}, std::int64_t(text.fed));
    }
    ++text.fed;
    events.push_back(std::move(event));
}

TokenEvent GeneratorEngine::generate(Text& text) {
    const TextRequest& request = text.request;
    const auto position = std::ssize(request.prompt) + text.generated;
    if (text.generated > 0) logits_ = generator_->feed({&text.last, 1}, position - 1);
    text.last =
        sample(logits_, request.sampling, request.sequence, static_cast<std::uint64_t>(position));
    ++text.generated;
    TokenEvent event{.id = text.id, .score = score(text.last, request)};
    if (std::ranges::find(request.stop_tokens, text.last) != request.stop_tokens.end()) {
        event.finish = Finish::stop;
    } else if (text.generated == request.max_tokens) {
        event.finish = Finish::length;
    }
    return event;
}

std::vector<TokenEvent> GeneratorEngine::step() {
    std::vector<TokenEvent> events;
    if (queue_.empty()) return events;
    Text& text = queue_.front();
    if (text.fed < text.request.prompt.size()) {
        feed_prompt(text, events);
    } else {
        events.push_back(generate(text));
    }
    if (!events.empty() && events.back().finish != Finish::none) queue_.pop_front();
    return events;
}

}  // namespace octavo
