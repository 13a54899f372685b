// Which tokens of which requests the next forward pass takes, and the blocks their keys and values
// go to. Running requests come first, in order of arrival; when blocks run out the last of them is
// preempted: it gives its blocks back and later computes prompt and generated tokens again. Prompts
// go in by chunks where the budget of a step ends. (vLLM's policy: first come first served,
// preemption by recomputation; Kwon et al., arXiv:2309.06180.)
//
// Only decides; the caller runs the model and samples.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"

namespace octavo {

struct SchedulerOptions {
    std::int64_t blocks = 0;                 // of the pool
    std::int64_t block = 16;                 // tokens of one
    std::int64_t max_batched_tokens = 8192;  // of a step
    std::int64_t max_seqs = 256;             // running at a time
    bool prefix_cache = true;
};

class Scheduler {
  public:
    // `count` tokens of a request from position `begin` on. If they are its last, it `samples`: the
    // caller appends a token or finishes it.
    struct Chunk {
        std::uint64_t id;
        std::int64_t begin, count;
        bool samples;
    };

    explicit Scheduler(const SchedulerOptions&);

    // A request with a new `id`, at least one token of prompt and up to `max_new` generated tokens.
    // Throws Error if it cannot fit the pool even by itself. Unless `cached`, it computes all of
    // its prompt (because the prompt is to be scored), but others may find its blocks.
    void add(std::uint64_t id, std::vector<std::int32_t> prompt, std::int64_t max_new,
             bool cached = true);

    // The next step, in scheduling order; empty if there is nothing to do. The chunks count as
    // computed from here on, so the caller must run all of them before it calls anything else but
    // `blocks` and `tokens`. Chunks may read what others of the same step write: a layer stores all
    // its keys and values before it attends.
    std::vector<Chunk> step();
    void append(std::uint64_t id, std::int32_t token);
    // Forgets the request, running or waiting; its blocks are free.
    void finish(std::uint64_t id);

    // By position / block; empty while it waits. Good until the next step.
    std::span<const std::int32_t> blocks(std::uint64_t id) const { return request(id).blocks; }
    // Prompt and generated. Good until the next append.
    std::span<const std::int32_t> tokens(std::uint64_t id) const { return request(id).tokens; }
    bool preempted(std::uint64_t id) const { return request(id).preempted; }  // ever

    // Nothing computed so far is found again (the weights have changed). Throws Error if requests
    // are running: they would mix keys and values of two models.
    void drop_prefix_cache();

    std::int64_t running() const { return std::ssize(running_); }
    std::int64_t waiting() const { return std::ssize(waiting_); }
    const BlockPool& pool() const { return pool_; }
    // Since the start.
    struct Counts {
        std::int64_t preemptions = 0;
        std::int64_t tokens = 0;      // scheduled
        std::int64_t hit_tokens = 0;  // found in the prefix cache instead
    };
    const Counts& counts() const { return counts_; }

  private:
    struct Request {
        std::uint64_t id;
        std::int64_t prompt, max_new;
        bool cached;
        std::vector<std::int32_t> tokens, blocks = {};
        std::int64_t computed = 0;
        BlockPool::Prefix prefix = 0;  // of the prompt blocks it holds
        bool preempted = false;

        std::int64_t length() const { return std::ssize(tokens); }
    };

    const Request& request(std::uint64_t id) const;
    Request& request(std::uint64_t id);
    std::span<const std::int32_t> block_tokens(const Request&, std::int64_t i) const;
    std::int64_t blocks_for(std::int64_t tokens) const;
    // Blocks to allocate before `count` more tokens of it can be computed.
    std::int64_t need(const Request&, std::int64_t count) const;

    bool continue_running(std::int64_t& budget, std::vector<Chunk>&);
    void admit_waiting(std::int64_t& budget, std::vector<Chunk>&);
    std::vector<std::int32_t> prefix_hit(const Request&) const;
    Chunk schedule(Request&, std::int64_t count);
    void preempt_last();
    void release(Request&);

    SchedulerOptions options_;
    BlockPool pool_;
    std::unordered_map<std::uint64_t, Request> requests_;
    std::vector<Request*> running_;  // both in order of arrival, all running before all waiting
    std::deque<Request*> waiting_;
    Counts counts_;
};

}  // namespace octavo
