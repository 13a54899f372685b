// OpenAI's completions and chat protocol over an engine.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "http/http.h"
#include "serve/engine_loop.h"
#include "serve/served_model.h"

namespace octavo {

class Generation;

struct ApiOptions {
    std::string key = {};                          // that clients must send; empty: none
    std::chrono::milliseconds time_limit{600000};  // of a request, waiting included
    std::int64_t max_reply = 1 << 21;              // tokens, as Generation::submit counts them
    std::uint64_t seed = 0;                        // of requests that bring none
};

class Api {
  public:
    // Both must outlive the routes. Throws Error if the chat template is not the tokenizer's.
    Api(ServedModel model, EngineLoop& engine, ApiOptions options);

    //   POST /v1/completions, /v1/chat/completions    GET /v1/models, /v1/models/NAME
    //   GET /health    GET /metrics, in the text format of Prometheus
    std::vector<HttpRoute> routes();

  private:
    HttpReply completions(const HttpRequest&);
    HttpReply chat(const HttpRequest&);
    HttpReply models(const HttpRequest&) const;
    HttpReply health() const;
    HttpReply metrics() const;

    HttpReply answer(const HttpRequest&, std::shared_ptr<Generation>);
    HttpReply guarded(const HttpRoute&, const HttpRequest&);
    void check_model(const std::string& name) const;

    ServedModel model_;
    EngineLoop& engine_;
    ApiOptions options_;
    mutable std::mutex mutex_;  // of what follows
    std::uint64_t requests_ = 0;
    std::map<std::pair<std::string, int>, std::int64_t> replies_;  // by path and status
};

// The body of an error that the HTTP server gives by itself.
std::string http_error_body(int status, const std::string& message);

}  // namespace octavo
