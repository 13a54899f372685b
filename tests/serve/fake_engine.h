// An engine without a model: every text gets the same reply, byte by byte.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>

#include "base/error.h"
#include "engine/text_engine.h"
#include "text/byte_tokenizer.h"

namespace octavo {

// What a test sets and sees while the engine's thread works.
struct FakeControl {
    std::string reply = "hello";  // then the end of text
    std::int64_t slots = 4;       // texts that run at once
    std::int64_t context = 1000;
    bool scores_prompts = true;
    std::int32_t first = -1;           // a token before the reply; -1: none
    std::int32_t likely = '!';         // reported as the most likely of all
    std::atomic<int> hold_after = -1;  // steps after which it waits; -1: it never does
    std::atomic<int> fail_after = -1;  // steps after which it fails
    std::atomic<int> step_us = 0;      // how long a step takes
    std::atomic<int> steps = 0, cancelled = 0, submitted = 0;
};

class FakeEngine final : public TextEngine {
  public:
    explicit FakeEngine(FakeControl& control) : control_(control) {}

    std::int64_t context() const override { return control_.context; }
    std::int64_t vocabulary() const override { return 260; }
    std::int64_t max_logprobs() const override { return 2; }
    bool scores_prompts() const override { return control_.scores_prompts; }
    std::int64_t running() const override { return std::min(control_.slots, std::ssize(texts_)); }

    std::uint64_t submit(TextRequest request) override {
        check(request.prompt.front() != 'X', "the engine does not like this prompt");
        ++control_.submitted;
        texts_.push_back({++ids_, std::move(request)});
        return ids_;
    }
    void cancel(std::uint64_t id) override {
        control_.cancelled +=
            static_cast<int>(std::erase_if(texts_, [&](const Text& t) { return t.id == id; }));
    }
    std::vector<TokenEvent> step() override {
        if (control_.hold_after >= 0 && control_.steps >= control_.hold_after) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return {};
        }
        check(control_.fail_after < 0 || control_.steps < control_.fail_after,
              "the device fell off");
        std::this_thread::sleep_for(std::chrono::microseconds(control_.step_us));
        ++control_.steps;
        std::vector<TokenEvent> events;
        for (std::int64_t i = 0; i < running(); ++i) advance(texts_[i], events);
        std::erase_if(texts_, [](const Text& t) { return t.over; });
        return events;
    }

  private:
    struct Text {
        std::uint64_t id;
        TextRequest request;
        std::size_t at = 0;
        bool scored = false, begun = false, over = false;
    };

    // The log-probability of a byte is minus its value over 100; of those reported, `likely` is
    // first.
    TokenScore score(const TextRequest& r, std::int32_t token) const {
        TokenScore score{.token = token};
        if (!r.logprobs) return score;
        score.logprob = -static_cast<float>(token) / 100;
        if (*r.logprobs > 0) score.top.emplace_back(control_.likely, -0.25f);
        if (*r.logprobs > 1) score.top.emplace_back('?', -0.5f);
        return score;
    }

    void advance(Text& t, std::vector<TokenEvent>& events) {
        const TextRequest& r = t.request;
        if (r.score_prompt && !t.scored) {
            t.scored = true;
            for (const std::int32_t& token : r.prompt) {
                events.push_back({.id = t.id, .score = score(r, token), .prompt = true});
                if (&token == &r.prompt.front()) events.back().score.logprob.reset();
            }
            t.over = r.max_tokens == 0;
            if (t.over) events.back().finish = Finish::length;
            return;
        }
        if (control_.first >= 0 && !t.begun) {
            t.begun = true;
            events.push_back({.id = t.id, .score = score(r, control_.first)});
            return;
        }
        const bool end = t.at == control_.reply.size();
        const std::int32_t token =
            end ? ByteTokenizer::kEndOfText : static_cast<unsigned char>(control_.reply[t.at]);
        ++t.at;
        TokenEvent event{.id = t.id, .score = score(r, token)};
        if (end) {
            event.finish = Finish::stop;
        } else if (std::int64_t(t.at) + t.begun == r.max_tokens) {
            event.finish = Finish::length;
        }
        t.over = event.finish != Finish::none;
        events.push_back(std::move(event));
    }

    FakeControl& control_;
    std::deque<Text> texts_;
    std::uint64_t ids_ = 0;
};

}  // namespace octavo
