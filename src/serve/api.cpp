#include "serve/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "base/process.h"
#include "serve/api_reply.h"
#include "serve/api_request.h"
#include "serve/text_stream.h"
#include "text/utf8.h"

namespace octavo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kGoneCheck{100};
constexpr std::int64_t kDefaultTokens = 16;  // of completions, as OpenAI has it

struct EncodedPrompt {
    std::vector<std::int32_t> ids;
    std::string text;        // for `echo`
    std::size_t before = 0;  // ids at its beginning that are not in the text
};

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

const char* reason(Finish finish) {
    return finish == Finish::stop ? "stop" : finish == Finish::length ? "length" : nullptr;
}

bool same(std::string_view a, std::string_view b) {  // in a time that tells nothing about `b`
    unsigned char difference = a.size() == b.size() ? 0 : 1;
    for (std::size_t i = 0; i < a.size(); ++i) {
        difference |= static_cast<unsigned char>(a[i] ^ b[b.empty() ? 0 : i % b.size()]);
    }
    return difference == 0;
}

HttpReply error_reply(const ApiError& error) {
    HttpReply reply{.status = error.status, .body = error_json(error)};
    if (error.status == 429) reply.headers.emplace("Retry-After", "1");
    return reply;
}

}  // namespace

// A request under way: from the engine's events to parts of its choices.
struct Api::Run {
    struct Text {
        TextStream shown;
        std::size_t prompt = 0;    // which one
        std::size_t at = 0;        // of the prompt's tokens
        std::string pending = {};  // bytes after the last whole character, for offsets
        std::size_t offset = 0;    // characters so far
        bool over = false;
    };

    Run(const ServedModel& served, EngineLoop& loop, const GenerationRequest& r, bool echoes)
        : model(served), engine(loop), request(r), echo(echoes) {}

    // One text for each prompt and each of its n samples.
    void submit(const ApiOptions& options, std::uint64_t seed,
                const std::vector<std::int32_t>& stop_tokens);
    // What comes next; nothing when all is said. Throws ApiError.
    std::optional<Choice> next(const std::function<bool()>& gone);

    Choice begin(std::uint64_t index);
    Choice take(TokenEvent event);
    ShownToken show(Text&, const TokenScore&, bool hidden);
    bool over() const { return std::ranges::all_of(texts, &Text::over); }

    const ServedModel& model;
    EngineLoop& engine;
    GenerationRequest request;
    bool echo;
    ReplyHead head = {};
    std::vector<EncodedPrompt> prompts = {};
    std::vector<Text> texts = {};
    std::size_t begun = 0;  // texts whose first part is out
    std::unique_ptr<Job> job = {};
    Usage usage = {};
    Clock::time_point deadline = {}, look = {};  // when to look again who is gone
};

void Api::Run::submit(const ApiOptions& options, std::uint64_t seed,
                      const std::vector<std::int32_t>& stop_tokens) {
    const EngineLimits& limits = engine.limits();
    const auto count = std::ssize(prompts) * request.n;
    if (count > limits.max_texts) {
        refuse("n", "this server works on at most {} texts at once, got {} prompts of n = {}",
               limits.max_texts, prompts.size(), request.n);
    }
    if (request.logprobs.value_or(0) > limits.max_logprobs) {
        refuse(head.chat ? "top_logprobs" : "logprobs", "expected at most {}, got {}",
               limits.max_logprobs, *request.logprobs);
    }
    const bool scores = echo && (request.logprobs || request.max_tokens == 0);
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
        usage.prompt_tokens += length;
        for (std::int64_t i = 0; i < request.n; ++i) {
            TextRequest order{.prompt = prompts[p].ids,
                              .max_tokens = most,
                              .sampling = request.sampling,
                              .sequence = orders.size(),
                              .stop_tokens = stop_tokens,
                              .logprobs = request.logprobs,
                              .score_prompt = scores};
            order.sampling.seed = request.seed.value_or(seed);
            order.sampling.vocabulary =
                std::min<std::int64_t>(model.tokenizer->vocabulary(), limits.vocabulary);
            orders.push_back(std::move(order));
            texts.push_back({.shown = TextStream(request.stop), .prompt = p});
        }
    }
    job = engine.submit(std::move(orders));
    if (!job) {
        throw ApiError(429, "the server has as many texts waiting as it takes; try again", "",
                       "rate_limit_exceeded");
    }
    deadline = Clock::now() + options.time_limit;
}

std::optional<Choice> Api::Run::next(const std::function<bool()>& gone) {
    if (begun < texts.size()) return begin(begun++);
    while (!over()) {
        if (const auto now = Clock::now(); now >= look) {  // also while tokens come
            look = now + kGoneCheck;
            if (gone()) throw ApiError(503, "the client or the server is about to end");
            if (now > deadline) throw ApiError(503, "the request took too long", "", "timeout");
        }
        if (auto event = job->next(kGoneCheck)) {
            if (!texts[event->id].over) return take(std::move(*event));
            // Else it came while its text was being cancelled.
        }
    }
    return std::nullopt;
}

Choice Api::Run::begin(std::uint64_t index) {
    Choice choice{.index = index, .opens = true};
    if (echo) choice.text = prompts[texts[index].prompt].text;
    if (request.logprobs) choice.logprobs.emplace();
    return choice;
}

Choice Api::Run::take(TokenEvent event) {
    Choice choice{.index = event.id};
    if (request.logprobs) choice.logprobs.emplace();
    Text& text = texts[event.id];
    text.over = event.finish != Finish::none;
    if (event.finish == Finish::failed) throw ApiError(500, event.error);
    choice.finish_reason = reason(event.finish);
    if (event.prompt) {
        const bool hidden = text.at++ < prompts[text.prompt].before;
        if (request.logprobs) choice.logprobs->push_back(show(text, event.score, hidden));
        return choice;
    }
    ++usage.completion_tokens;
    if (event.finish != Finish::stop) {
        choice.text = text.shown.push(model.tokenizer->bytes(event.score.token));
        if (request.logprobs) choice.logprobs->push_back(show(text, event.score, false));
    }
    if (text.shown.stopped()) {
        if (!text.over) job->cancel(event.id);
        text.over = true;
        choice.finish_reason = "stop";
    } else if (text.over) {
        choice.text += text.shown.finish();
        if (text.shown.stopped()) choice.finish_reason = "stop";
    }
    return choice;
}

ShownToken Api::Run::show(Text& text, const TokenScore& score, bool hidden) {
    ShownToken shown{.bytes = std::string(model.tokenizer->bytes(score.token)),
                     .offset = text.offset,
                     .logprob = score.logprob};
    for (const auto& [token, logprob] : score.top) {
        if (token < model.tokenizer->vocabulary()) {
            shown.top.emplace_back(model.tokenizer->bytes(token), logprob);
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

Api::Api(ServedModel model, EngineLoop& engine, ApiOptions options)
    : model_(std::move(model)), engine_(engine), options_(std::move(options)) {
    const Tokenizer& tokenizer = *model_.tokenizer;
    if (const auto end = tokenizer.end_of_text()) stop_tokens_.push_back(*end);
    if (!model_.chat) return;
    model_.chat->check_tokenizer(tokenizer);
    stop_tokens_.push_back(*tokenizer.special(model_.chat->end_of_turn()));
}

std::vector<HttpRoute> Api::routes() {
    std::vector<HttpRoute> routes = {
        {"POST", "/v1/completions", [this](const auto& r) { return completions(r); }},
        {"POST", "/v1/chat/completions", [this](const auto& r) { return chat(r); }},
        {"GET", "/v1/models", [this](const auto& r) { return models(r); }},
        {"GET", "/v1/models/*", [this](const auto& r) { return models(r); }},
        {"GET", "/health", [this](const auto&) { return health(); }},
        {"GET", "/metrics", [this](const auto&) { return metrics(); }},
    };
    for (HttpRoute& route : routes) {
        route.handler = [this, inner = route](const HttpRequest& r) { return guarded(inner, r); };
    }
    return routes;
}

HttpReply Api::guarded(const HttpRoute& route, const HttpRequest& request) {
    HttpReply reply;
    try {
        if (!options_.key.empty() && route.path.starts_with("/v1/") &&
            !same(request.authorization, "Bearer " + options_.key)) {
            throw ApiError(401, "expected the server's API key as \"Authorization: Bearer KEY\"",
                           "", "invalid_api_key");
        }
        reply = route.handler(request);
    } catch (const ApiError& error) {
        reply = error_reply(error);
    } catch (const std::exception& error) {
        reply = error_reply(ApiError(500, error.what()));
    }
    const std::lock_guard lock(mutex_);
    ++replies_[{route.path, reply.status}];
    return reply;
}

void Api::check_model(const std::string& name) const {
    if (name.empty() || name == model_.name) return;
    throw ApiError(404, fmt::format("the model '{}' is not here, only '{}'", name, model_.name),
                   "model", "model_not_found");
}

HttpReply Api::completions(const HttpRequest& http) {
    const CompletionRequest request = parse_completion_request(http.body);
    check_model(request.model);
    auto run = std::make_shared<Run>(model_, engine_, request, request.echo);
    for (const Prompt& prompt : request.prompts) run->prompts.push_back(encode(model_, prompt));
    return answer(http, std::move(run));
}

HttpReply Api::chat(const HttpRequest& http) {
    const ChatRequest request = parse_chat_request(http.body);
    check_model(request.model);
    if (!model_.chat) {
        throw ApiError(400,
                       fmt::format("'{}' has no chat template; use /v1/completions", model_.name));
    }
    auto run = std::make_shared<Run>(model_, engine_, request, false);
    run->head.chat = true;
    try {
        const auto encoder = model_.tokenizer->encoder();
        run->prompts.push_back(
            {model_.chat->encode(request.messages, true, *model_.tokenizer, *encoder).ids, ""});
    } catch (const Error& error) {
        refuse("messages", "{}", error.message());
    }
    return answer(http, std::move(run));
}

HttpReply Api::answer(const HttpRequest& http, std::shared_ptr<Run> run) {
    std::uint64_t number = 0;
    {
        const std::lock_guard lock(mutex_);
        number = ++requests_;
    }
    run->head.model = model_.name;
    run->head.created = static_cast<std::int64_t>(unix_time_s());
    run->head.id = fmt::format("{}-{:016x}{:08x}", run->head.chat ? "chatcmpl" : "cmpl",
                               options_.seed, number);
    run->submit(options_, options_.seed + number, stop_tokens_);
    if (run->request.stream) {
        const auto stream = [run, gone = http.gone](const HttpSink& sink) {
            const auto send = [&](const std::string& json) {
                return sink("data: " + json + "\n\n");
            };
            try {
                while (const auto part = run->next(gone)) {
                    const bool empty = part->text.empty() && !part->finish_reason &&
                                       !(part->opens && run->head.chat) &&
                                       (!part->logprobs || part->logprobs->empty());
                    if (empty) continue;
                    if (!send(chunk_json(run->head, *part, run->request.stream_usage))) return;
                }
                if (run->request.stream_usage) send(usage_chunk_json(run->head, run->usage));
                send("[DONE]");
            } catch (const ApiError& error) {
                send(error_json(error));
            } catch (const std::exception& error) {
                send(error_json(ApiError(500, error.what())));
            }
        };
        return {.type = "text/event-stream",
                .headers = {{"Cache-Control", "no-cache"}},
                .stream = stream};
    }
    std::vector<Choice> choices(run->texts.size());
    while (auto part = run->next(http.gone)) {
        Choice& choice = choices[part->index];
        choice.index = part->index;
        choice.text += part->text;
        choice.finish_reason = part->finish_reason;
        if (!part->logprobs) continue;
        if (!choice.logprobs) choice.logprobs.emplace();
        std::ranges::move(*part->logprobs, std::back_inserter(*choice.logprobs));
    }
    return {.body = reply_json(run->head, choices, run->usage)};
}

HttpReply Api::models(const HttpRequest& http) const {
    const std::int64_t context = engine_.limits().context;
    if (http.match.empty()) return {.body = models_json(model_.name, model_.created, context)};
    check_model(http.match);
    return {.body = model_json(model_.name, model_.created, context)};
}

HttpReply Api::health() const {
    if (const auto why = engine_.failure()) return error_reply(ApiError(503, *why));
    return {.body = "{\"status\":\"ok\"}"};
}

HttpReply Api::metrics() const {
    const EngineStats stats = engine_.stats();
    std::string out;
    const auto add = [&](const char* name, const char* type, const char* help, std::int64_t value) {
        out += fmt::format("# HELP octavo_{0} {1}\n# TYPE octavo_{0} {2}\noctavo_{0} {3}\n", name,
                           help, type, value);
    };
    add("texts_running", "gauge", "Texts the engine works on.", stats.running);
    add("texts_waiting", "gauge", "Texts that wait for the engine.", stats.waiting);
    add("texts_limit", "gauge", "Texts running and waiting at most.", engine_.limits().max_texts);
    add("texts_finished_total", "counter", "Texts that came to their end.", stats.finished);
    add("texts_cancelled_total", "counter", "Texts given up: a stop string, or the client went.",
        stats.cancelled);
    add("texts_failed_total", "counter", "Texts the engine refused or failed at.", stats.failed);
    add("texts_refused_total", "counter", "Texts for which there was no room.", stats.refused);
    add("prompt_tokens_total", "counter", "Tokens of accepted prompts.", stats.prompt_tokens);
    add("generated_tokens_total", "counter", "Tokens generated.", stats.generated_tokens);
    out += "# HELP octavo_requests_total Replies by path and status.\n";
    out += "# TYPE octavo_requests_total counter\n";
    const std::lock_guard lock(mutex_);
    for (const auto& [key, count] : replies_) {
        out += fmt::format("octavo_requests_total{{path=\"{}\",status=\"{}\"}} {}\n", key.first,
                           key.second, count);
    }
    return {.type = "text/plain; version=0.0.4", .body = std::move(out)};
}

std::string http_error_body(int status, const std::string& message) {
    return error_json(ApiError(status, message));
}

}  // namespace octavo
