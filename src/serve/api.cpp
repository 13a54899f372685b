#include "serve/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "base/process.h"
#include "serve/generation.h"

namespace octavo {
namespace {

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

Api::Api(ServedModel model, EngineLoop& engine, ApiOptions options)
    : model_(std::move(model)), engine_(engine), options_(std::move(options)) {
    if (!model_.chat) return;
    model_.chat->check_tokenizer(*model_.tokenizer);
    model_.stop_tokens.push_back(*model_.tokenizer->special(model_.chat->end_of_turn()));
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
    auto run = std::make_shared<Generation>(model_, engine_, request, request.echo);
    run->reserve(request.prompts.size());
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
    auto run = std::make_shared<Generation>(model_, engine_, request, false);
    run->head.chat = true;
    run->reserve(1);
    try {
        const auto encoder = model_.tokenizer->encoder();
        run->prompts.push_back(
            {model_.chat->encode(request.messages, true, *model_.tokenizer, *encoder).ids, ""});
    } catch (const Error& error) {
        refuse("messages", "{}", error.message());
    }
    return answer(http, std::move(run));
}

HttpReply Api::answer(const HttpRequest& http, std::shared_ptr<Generation> run) {
    std::uint64_t number = 0;
    {
        const std::lock_guard lock(mutex_);
        number = ++requests_;
    }
    run->head.model = model_.name;
    run->head.created = static_cast<std::int64_t>(unix_time_s());
    run->head.id = fmt::format("{}-{:016x}{:08x}", run->head.chat ? "chatcmpl" : "cmpl",
                               options_.seed, number);
    run->submit(options_.time_limit, options_.max_reply, options_.seed + number,
                model_.stop_tokens);
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
                if (run->request.stream_usage) send(usage_chunk_json(run->head, run->usage()));
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
    std::vector<Choice> choices(run->choices());
    while (auto part = run->next(http.gone)) {
        Choice& choice = choices[part->index];
        choice.index = part->index;
        choice.text += part->text;
        choice.finish_reason = part->finish_reason;
        if (!part->logprobs) continue;
        if (!choice.logprobs) choice.logprobs.emplace();
        std::ranges::move(*part->logprobs, std::back_inserter(*choice.logprobs));
    }
    return {.body = reply_json(run->head, choices, run->usage())};
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
