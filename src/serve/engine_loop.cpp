#include "serve/engine_loop.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"

namespace octavo {

Job::~Job() {
    {
        const std::lock_guard lock(loop_.mutex_);
        loop_.texts_under_way_ -= reserved_;
    }
    std::erase(tickets_, 0u);
    loop_.cancel(tickets_);
}

void Job::start(std::vector<TextRequest> texts) {
    {
        const std::lock_guard lock(loop_.mutex_);
        check(std::ssize(texts) <= reserved_, "expected at most {} texts, got {}", reserved_,
              texts.size());
        if (loop_.failure_) fail("{}", *loop_.failure_);
        reserved_ -= std::ssize(texts);
        for (TextRequest& request : texts) {
            loop_.stats_.prompt_tokens += std::ssize(request.prompt);
            loop_.orders_.push_back(
                {++loop_.tickets_, mailbox_, tickets_.size(), std::move(request)});
            tickets_.push_back(loop_.tickets_);
        }
    }
    loop_.wake_.notify_all();
}

std::optional<TokenEvent> Job::next(std::chrono::milliseconds time) {
    std::unique_lock lock(loop_.mutex_);
    auto& events = mailbox_->events;
    if (!mailbox_->came.wait_for(lock, time, [&] { return !events.empty(); })) return std::nullopt;
    TokenEvent event = std::move(events.front());
    events.pop_front();
    if (event.finish != Finish::none) tickets_[event.id] = 0;
    return event;
}

void Job::cancel(std::uint64_t text) {
    if (const std::uint64_t ticket = std::exchange(tickets_[text], 0); ticket != 0) {
        loop_.cancel({&ticket, 1});
    }
    const std::lock_guard lock(loop_.mutex_);
    std::erase_if(mailbox_->events, [&](const TokenEvent& event) { return event.id == text; });
}

EngineLoop::EngineLoop(std::unique_ptr<TextEngine> engine, std::int64_t max_texts)
    : engine_(std::move(engine)),
      limits_{engine_->context(), engine_->vocabulary(), engine_->max_logprobs(),
              engine_->scores_prompts(), max_texts},
      thread_([this] { run(); }) {}

EngineLoop::~EngineLoop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

std::unique_ptr<Job> EngineLoop::reserve(std::int64_t texts) {
    const std::lock_guard lock(mutex_);
    if (failure_) fail("{}", *failure_);
    if (texts > limits_.max_texts - texts_under_way_) {
        stats_.refused += texts;
        return nullptr;
    }
    std::unique_ptr<Job> job(new Job(*this, texts));
    texts_under_way_ += texts;
    return job;
}

EngineStats EngineLoop::stats() const {
    const std::lock_guard lock(mutex_);
    EngineStats stats = stats_;
    stats.waiting = std::max<std::int64_t>(0, texts_under_way_ - stats.running);
    return stats;
}

std::optional<std::string> EngineLoop::failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
}

void EngineLoop::cancel(std::span<const std::uint64_t> tickets) {
    if (tickets.empty()) return;
    {
        const std::lock_guard lock(mutex_);
        if (failure_) return;
        for (const std::uint64_t ticket : tickets) orders_.push_back({ticket, nullptr});
    }
    wake_.notify_all();
}

void EngineLoop::run() {
    for (;;) {
        std::vector<Order> orders;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return stop_ || !orders_.empty() || !texts_.empty(); });
            if (stop_) return;
            orders.swap(orders_);
        }
        try {
            take(std::move(orders));
            if (texts_.empty()) continue;
            std::vector<TokenEvent> events = engine_->step();
            {  // before anybody sees that a text is over
                const std::int64_t running = engine_->running();
                const std::lock_guard lock(mutex_);
                stats_.running = running;
            }
            for (TokenEvent& event : events) deliver(std::move(event));
        } catch (const std::exception& error) {
            return fail_all(error.what());
        }
    }
}

void EngineLoop::take(std::vector<Order> orders) {
    for (Order& order : orders) {
        if (order.mailbox) {
            const Text text{order.ticket, order.mailbox, order.text};
            try {
                const std::uint64_t id = engine_->submit(std::move(order.request));
                ids_[order.ticket] = id;
                texts_.emplace(id, text);
            } catch (const std::exception& error) {
                post(text, {.finish = Finish::failed, .error = error.what()});
            }
        } else if (const auto found = ids_.find(order.ticket); found != ids_.end()) {
            engine_->cancel(found->second);
            texts_.erase(found->second);
            ids_.erase(found);
            const std::lock_guard lock(mutex_);
            ++stats_.cancelled;
            --texts_under_way_;
        }
    }
    if (texts_.empty()) {
        const std::lock_guard lock(mutex_);
        stats_.running = 0;
    }
}

void EngineLoop::deliver(TokenEvent event) {
    const auto found = texts_.find(event.id);
    if (found == texts_.end()) return;
    const Text text = found->second;
    if (event.finish != Finish::none) {
        ids_.erase(text.ticket);
        texts_.erase(found);
    }
    post(text, std::move(event));
}

void EngineLoop::post(const Text& text, TokenEvent event) {
    event.id = text.text;
    {
        const std::lock_guard lock(mutex_);
        if (event.finish != Finish::none) {
            --texts_under_way_;
            ++(event.finish == Finish::failed ? stats_.failed : stats_.finished);
        }
        if (!event.prompt && event.finish != Finish::failed) ++stats_.generated_tokens;
        text.mailbox->events.push_back(std::move(event));
    }
    text.mailbox->came.notify_all();
}

void EngineLoop::fail_all(const std::string& why) {
    std::vector<Order> orders;
    {
        const std::lock_guard lock(mutex_);
        failure_ = why;
        orders.swap(orders_);
        stats_.running = 0;
    }
    for (const auto& [id, text] : texts_) post(text, {.finish = Finish::failed, .error = why});
    texts_.clear();
    for (const Order& order : orders) {
        if (!order.mailbox) continue;
        post({order.ticket, order.mailbox, order.text}, {.finish = Finish::failed, .error = why});
    }
}

}  // namespace octavo
