// The thread that drives the engine, and what passes between it and the threads of requests.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine/text_engine.h"

namespace octavo {

struct EngineLimits {
    std::int64_t context, vocabulary, max_logprobs;
    bool scores_prompts;
    std::int64_t max_texts;  // running and waiting together
};

struct EngineStats {
    std::int64_t running = 0, waiting = 0;
    std::int64_t prompt_tokens = 0, generated_tokens = 0;               // since the start
    std::int64_t finished = 0, cancelled = 0, failed = 0, refused = 0;  // texts
};

class EngineLoop;

// The texts of one request. Its end cancels what is still under way.
class Job {
  public:
    ~Job();
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;

    // All texts of the request, for which there is room: as many as were reserved, or fewer.
    void start(std::vector<TextRequest> texts);
    // The next event, whose id is the text's place in the request. Nothing if none came in time.
    std::optional<TokenEvent> next(std::chrono::milliseconds);
    void cancel(std::uint64_t text);  // no more events of it

  private:
    friend class EngineLoop;
    struct Mailbox {
        std::condition_variable came;
        std::deque<TokenEvent> events;
    };
    Job(EngineLoop& loop, std::int64_t reserved)
        : loop_(loop), mailbox_(std::make_shared<Mailbox>()), reserved_(reserved) {}

    EngineLoop& loop_;
    std::shared_ptr<Mailbox> mailbox_;
    std::int64_t reserved_;               // texts that may still be started
    std::vector<std::uint64_t> tickets_;  // by text; 0: it is over
};

class EngineLoop {
  public:
    EngineLoop(std::unique_ptr<TextEngine> engine, std::int64_t max_texts);
    // Jobs must be gone.
    ~EngineLoop();
    EngineLoop(const EngineLoop&) = delete;
    EngineLoop& operator=(const EngineLoop&) = delete;

    const EngineLimits& limits() const { return limits_; }
    // Room for all texts of a request or none: null if there is not so much now. Throws Error after
    // a failure.
    std::unique_ptr<Job> reserve(std::int64_t texts);
    EngineStats stats() const;
    // Why the engine ended, if it did.
    std::optional<std::string> failure() const;

  private:
    friend class Job;
    struct Order {
        std::uint64_t ticket;
        std::shared_ptr<Job::Mailbox> mailbox;  // null: cancel it
        std::uint64_t text = 0;
        TextRequest request = {};
    };
    struct Text {
        std::uint64_t ticket;
        std::shared_ptr<Job::Mailbox> mailbox;
        std::uint64_t text;
    };

    void cancel(std::span<const std::uint64_t> tickets);
    void run();
    void take(std::vector<Order> orders);
    void deliver(TokenEvent event);
    void post(const Text&, TokenEvent event);
    void fail_all(const std::string& why);

    std::unique_ptr<TextEngine> engine_;
    EngineLimits limits_;
    std::map<std::uint64_t, Text> texts_;         // by the engine's id
    std::map<std::uint64_t, std::uint64_t> ids_;  // the engine's, by ticket
    mutable std::mutex mutex_;                    // of all that follows, mailboxes included
    std::condition_variable wake_;
    std::vector<Order> orders_;
    std::uint64_t tickets_ = 0;
    std::int64_t texts_under_way_ = 0;
    EngineStats stats_;
    std::optional<std::string> failure_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace octavo
