#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace octavo {
namespace {

SchedulerOptions checked(const SchedulerOptions& o) {
    check(o.blocks >= 1,
          "the key-value pool must have at least 1 block, got {}\n  Give it more memory.",
          o.blocks);
    check(o.block >= 1, "a block must hold at least 1 token, got {}", o.block);
    check(o.max_batched_tokens >= 1, "a step must take at least 1 token, got {}",
          o.max_batched_tokens);
    check(o.max_seqs >= 1, "at least 1 request must be able to run, got {}", o.max_seqs);
    return o;
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(checked(options)), pool_(options.blocks, options.block) {}

void Scheduler::add(std::uint64_t id, std::vector<std::int32_t> prompt, std::int64_t max_new,
                    bool cached) {
    check(!prompt.empty(), "request {}: the prompt has no tokens", id);
    check(max_new >= 0, "request {}: max_new must be 0 or more, got {}", id, max_new);
    const std::int64_t length = std::ssize(prompt);
    // The last token is never fed.
    const std::int64_t blocks = blocks_for(length + std::max<std::int64_t>(max_new, 1) - 1);
    check(blocks <= pool_.size(),
          "request {}: {} prompt tokens and {} new ones take {} blocks of {} tokens, and the "
          "key-value pool has {}\n  Ask for fewer tokens or give the pool more memory.",
          id, length, max_new, blocks, options_.block, pool_.size());
    const auto [at, is_new] =
        requests_.try_emplace(id, Request{id, length, max_new, cached, std::move(prompt)});
    check(is_new, "request {} is already there\n  Finish it or choose another id.", id);
    waiting_.push_back(&at->second);
}

std::vector<Scheduler::Chunk> Scheduler::step() {
    std::vector<Chunk> chunks;
    chunks.reserve(running_.size());
    std::int64_t budget = options_.max_batched_tokens;
    if (continue_running(budget, chunks)) admit_waiting(budget, chunks);
    return chunks;
}

// False if a request was preempted.
bool Scheduler::continue_running(std::int64_t& budget, std::vector<Chunk>& chunks) {
    const std::int64_t preemptions = counts_.preemptions;
    for (std::size_t i = 0; i < running_.size(); ++i) {
        Request& r = *running_[i];
        const std::int64_t count = std::min(r.length() - r.computed, budget);
        if (count == 0) continue;
        // The last may be r itself, and is never one that this step has scheduled.
        while (i < running_.size() && need(r, count) > pool_.free()) preempt_last();
        if (i == running_.size()) break;
        chunks.push_back(schedule(r, count));
        budget -= count;
    }
    return counts_.preemptions == preemptions;
}

// As long as budget is left, every running request has computed all its tokens by the end of this
// step. So blocks that are found here hold what they promise when the first chunk reads them.
void Scheduler::admit_waiting(std::int64_t& budget, std::vector<Chunk>& chunks) {
    while (!waiting_.empty() && budget > 0 && running() < options_.max_seqs) {
        Request& r = *waiting_.front();
        const std::vector<std::int32_t> hit = prefix_hit(r);
        const std::int64_t hit_tokens = std::ssize(hit) * options_.block;
        const std::int64_t count = std::min(r.length() - hit_tokens, budget);
        const auto free_hits =
            std::ranges::count(hit, 0, [&](std::int32_t b) { return pool_.references(b); });
        if (blocks_for(hit_tokens + count) - std::ssize(hit) + free_hits > pool_.free()) return;

        waiting_.pop_front();
        running_.push_back(&r);
        for (const std::int32_t b : hit) pool_.share(b);
        if (!hit.empty()) r.prefix = pool_.prefix(hit.back());
        r.blocks = hit;
        r.computed = hit_tokens;
        counts_.hit_tokens += hit_tokens;
        chunks.push_back(schedule(r, count));
        budget -= count;
    }
}

// The last token is always computed: its logits are wanted.
std::vector<std::int32_t> Scheduler::prefix_hit(const Request& r) const {
    std::vector<std::int32_t> hit;
    if (!options_.prefix_cache || !r.cached) return hit;
    const std::int64_t most = std::min(r.prompt, r.length() - 1) / options_.block;
    BlockPool::Prefix prefix = 0;
    for (std::int64_t i = 0; i < most; ++i) {
        const auto b = pool_.find(prefix, block_tokens(r, i));
        if (!b) break;
        hit.push_back(*b);
        prefix = pool_.prefix(*b);
    }
    return hit;
}

// Blocks of prompt can be found before they are computed, so that requests of one step share them.
Scheduler::Chunk Scheduler::schedule(Request& r, std::int64_t count) {
    for (std::int64_t more = need(r, count); more > 0; --more) {
        const std::int64_t i = std::ssize(r.blocks);
        r.blocks.push_back(pool_.allocate());
        if (options_.prefix_cache && (i + 1) * options_.block <= r.prompt) {
            r.prefix = pool_.remember(r.blocks.back(), r.prefix, block_tokens(r, i));
        }
    }
    const std::int64_t begin = r.computed;
    r.computed += count;
    counts_.tokens += count;
    return {r.id, begin, count, r.computed == r.length()};
}

void Scheduler::preempt_last() {
    Request& r = *running_.back();
    running_.pop_back();
    waiting_.push_front(&r);
    release(r);
    r.preempted = true;
    ++counts_.preemptions;
}

// In reverse, so that the start of a prompt can be found for longer than its end. What was promised
// but not computed must not be found at all.
void Scheduler::release(Request& r) {
    for (std::int64_t i = std::ssize(r.blocks) - 1; i >= 0; --i) {
        if ((i + 1) * options_.block > r.computed) pool_.forget(r.blocks[i]);
        pool_.release(r.blocks[i]);
    }
    r.blocks.clear();
    r.computed = 0;
    r.prefix = 0;
}

void Scheduler::append(std::uint64_t id, std::int32_t token) {
    Request& r = request(id);
    check(r.computed == r.length(),
          "request {}: a token comes after all before it are computed, got one at {} of {}", id,
          r.computed, r.length());
    check(r.length() < r.prompt + r.max_new,
          "request {}: all of its {} new tokens are there\n  Finish it.", id, r.max_new);
    r.tokens.push_back(token);
}

void Scheduler::finish(std::uint64_t id) {
    Request& r = request(id);
    release(r);
    if (std::erase(running_, &r) == 0) std::erase(waiting_, &r);
    requests_.erase(id);
}

void Scheduler::drop_prefix_cache() {
    check(running_.empty(),
          "the prefix cache is dropped between requests, and {} are running\n  Finish them first.",
          running());
    pool_.forget_all();
}

const Scheduler::Request& Scheduler::request(std::uint64_t id) const {
    const auto at = requests_.find(id);
    check(at != requests_.end(), "there is no request {}: never added or finished already", id);
    return at->second;
}

Scheduler::Request& Scheduler::request(std::uint64_t id) {
    return const_cast<Request&>(std::as_const(*this).request(id));
}

std::span<const std::int32_t> Scheduler::block_tokens(const Request& r, std::int64_t i) const {
    const auto block = static_cast<std::size_t>(options_.block);
    return std::span(r.tokens).subspan(static_cast<std::size_t>(i) * block, block);
}

std::int64_t Scheduler::blocks_for(std::int64_t tokens) const {
    return (tokens + options_.block - 1) / options_.block;
}

std::int64_t Scheduler::need(const Request& r, std::int64_t count) const {
    return blocks_for(r.computed + count) - std::ssize(r.blocks);
}

}  // namespace octavo
