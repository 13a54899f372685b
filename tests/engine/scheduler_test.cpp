#include "engine/scheduler.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"

namespace octavo {
namespace {

using Chunks = std::vector<Scheduler::Chunk>;

// `count` tokens that no prompt from elsewhere has.
std::vector<std::int32_t> text(std::int64_t count, std::int32_t from = 0) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
    std::iota(tokens.begin(), tokens.end(), from);
    return tokens;
}

std::string show(const Chunks& chunks) {
    std::string s;
    for (const auto& c : chunks) {
        s += fmt::format("{}{} {}", s.empty() ? "" : ", ", static_cast<char>(c.id), c.count);
    }
    return s;
}

void expect_all_returned(const Scheduler& s) {
    const BlockPool& pool = s.pool();
    EXPECT_EQ(pool.free(), pool.size());
    EXPECT_EQ(pool.allocated(), pool.freed());
    for (std::int32_t b = 0; b < pool.size(); ++b)
        EXPECT_EQ(pool.references(b), 0) << "block " << b;
    EXPECT_EQ(s.running() + s.waiting(), 0);
}

// Requests that generate a known number of tokens.
struct Rollout {
    Scheduler scheduler;
    std::array<std::int64_t, 192> left = {};         // to generate, by id
    std::map<std::uint64_t, std::int64_t> end = {};  // step of the last token
    std::int64_t steps = 0;

    explicit Rollout(const SchedulerOptions& o) : scheduler(o) {}

    void add(std::uint64_t id, std::vector<std::int32_t> prompt, std::int64_t output) {
        scheduler.add(id, std::move(prompt), output);
        left[id] = output;
    }
    Chunks step() {
        Chunks chunks = scheduler.step();
        for (const auto& c : chunks) {
            if (!c.samples) continue;
            scheduler.append(c.id, -1);
            if (--left[c.id] > 0) continue;
            scheduler.finish(c.id);
            end[c.id] = steps;
        }
        ++steps;
        return chunks;
    }
    bool over() const { return scheduler.running() + scheduler.waiting() == 0; }
};

TEST(Scheduler, GoldenTraceWithoutPrefixCache) {
    Rollout run({.blocks = 12, .max_batched_tokens = 64, .prefix_cache = false});
    for (int i = 0; i < 3; ++i) run.add('A' + i, text(40), 33);
    EXPECT_EQ(show(run.step()), "A 40, B 24");
    EXPECT_EQ(show(run.step()), "A 1, B 16, C 40");
    while (run.steps < 25) EXPECT_EQ(show(run.step()), "A 1, B 1, C 1");
    EXPECT_FALSE(run.scheduler.preempted('C'));
    EXPECT_EQ(run.scheduler.tokens('C').size(), 64u);  // 63 of them computed
    EXPECT_EQ(show(run.step()), "A 1, B 1");
    EXPECT_TRUE(run.scheduler.preempted('C'));
    EXPECT_TRUE(run.scheduler.blocks('C').empty());
    while (run.steps < 33) EXPECT_EQ(show(run.step()), "A 1, B 1");
    EXPECT_EQ(show(run.step()), "B 1, C 63");
    while (!run.over()) EXPECT_EQ(show(run.step()), "C 1");
    EXPECT_EQ(run.end, (std::map<std::uint64_t, std::int64_t>{{'A', 32}, {'B', 33}, {'C', 42}}));
    EXPECT_EQ(run.steps, 43);
    EXPECT_EQ(run.scheduler.counts().tokens, 279);
    EXPECT_EQ(run.scheduler.counts().preemptions, 1);
    expect_all_returned(run.scheduler);
}

TEST(Scheduler, GoldenTraceWithPrefixCache) {
    Rollout run({.blocks = 12, .max_batched_tokens = 64});
    for (int i = 0; i < 3; ++i) run.add('A' + i, text(40), 33);
    EXPECT_EQ(show(run.step()), "A 40, B 8, C 8");
    EXPECT_EQ(run.scheduler.counts().hit_tokens, 64);
    while (!run.over()) run.step();
    EXPECT_EQ(run.steps, 33);
    EXPECT_EQ(run.scheduler.counts().tokens, 152);
    EXPECT_EQ(run.scheduler.counts().preemptions, 0);
    expect_all_returned(run.scheduler);
}

// 12 prompts, 16 samples each, with outputs of about m tokens and a long tail.
struct Replay {
    Rollout run;
    std::int64_t once = 0;  // tokens, if none is computed twice

    Replay(int m, std::int64_t blocks) : run({.blocks = blocks, .max_batched_tokens = 32'768}) {
        for (int i = 0; i < 192; ++i) {
            const std::uint32_t x = philox(0, 0, static_cast<std::uint64_t>(i))[0];
            const auto factor = [&](int byte) { return std::int64_t{64 + (x >> 8 * byte & 255)}; };
            const std::int64_t output = std::clamp<std::int64_t>(
                m * factor(0) * factor(1) * factor(2) / 7'022'736, 1, 20'480);
            run.add(static_cast<std::uint64_t>(i), text(150, i / 16 * 150), output);
            once += (i % 16 == 0 ? 150 : 6) + output - 1;
        }
    }
};

// The pools are those of Qwen3-8B: 36.9 and 44.1 GB in BF16, then in FP8.
constexpr std::array<std::int64_t, 4> kPools{15'622, 18'709, 31'244, 37'417};

struct Load {
    int m;
    std::vector<std::int64_t> preemptions, steps, recomputed;  // by pool; empty: not told
};

class SchedulerLoad : public testing::TestWithParam<Load> {};

TEST_P(SchedulerLoad, PreemptsLessInALargerPool) {
    const Load& load = GetParam();
    std::vector<std::int64_t> preemptions, steps, recomputed;
    for (const std::int64_t blocks : kPools) {
        Replay replay(load.m, blocks);
        Rollout& run = replay.run;
        while (!run.over()) run.step();
        preemptions.push_back(run.scheduler.counts().preemptions);
        steps.push_back(run.steps);
        recomputed.push_back(run.scheduler.counts().tokens - replay.once);
        if (load.m == 4000) {
            EXPECT_EQ(replay.once, 743'757);
        }
        expect_all_returned(run.scheduler);
    }
    EXPECT_EQ(preemptions, load.preemptions);
    if (!load.steps.empty()) {
        EXPECT_EQ(steps, load.steps);
    }
    if (!load.recomputed.empty()) {
        EXPECT_EQ(recomputed, load.recomputed);
    }
}

INSTANTIATE_TEST_SUITE_P(, SchedulerLoad,
                         testing::Values(Load{2000, {0, 0, 0, 0}, {}, {0, 0, 0, 0}},
                                         Load{4000,
                                              {120, 43, 0, 0},
                                              {15'122, 13'993, 13'993, 13'993},
                                              {284'085, 132'821, 0, 0}},
                                         Load{6000, {271, 218, 0, 0}, {}, {}},
                                         Load{8000, {382, 299, 121, 41}, {}, {}}),
                         [](const auto& load) { return std::to_string(load.param.m); });

// A step of Qwen3-8B on a card of 3.35 TB/s, of which it gets three quarters: weights are read or
// multiplied, then keys and values are read.
struct Format {
    double weight_bytes, rate;  // of products, per second
    double kv_bytes;            // of a token
    std::int64_t blocks;
};

double seconds(int m, const Format& f) {
    constexpr double kBandwidth = 0.75 * 3.35e12;
    Replay replay(m, f.blocks);
    double sum = 0;
    while (!replay.run.over()) {
        double tokens = 0, context = 0, texts = 0;
        for (const auto& c : replay.run.step()) {
            tokens += static_cast<double>(c.count);
            context += static_cast<double>(c.begin + c.count);
            ++texts;
        }
        sum += std::max(f.weight_bytes / kBandwidth, 15.14e9 * tokens / f.rate) +
               context * f.kv_bytes / kBandwidth + 1.5e-3 + 8e-6 * texts;
    }
    return sum;
}

// How much sooner a rollout ends with Linear layers, keys and values, or both in FP8. Larger pools
// are what smaller weights leave, and smaller tokens.
TEST(SchedulerSpeed, LinearLayersPayForShortTextsAndKeysForLongOnes) {
    constexpr double kBf16 = 15.137e9, kFp8 = 8.191e9;
    const struct {
        int m;
        double linear, kv, both;
    } known[] = {{2000, 1.27, 1.24, 1.68}, {4000, 1.26, 1.47, 1.88}, {6000, 1.24, 1.74, 2.14}};
    for (const auto& k : known) {
        const double plain = seconds(k.m, {kBf16, 500e12, 147'456, kPools[0]});
        EXPECT_NEAR(plain / seconds(k.m, {kFp8, 900e12, 147'456, kPools[1]}), k.linear, 0.02);
        EXPECT_NEAR(plain / seconds(k.m, {kBf16, 500e12, 73'728, kPools[2]}), k.kv, 0.02);
        EXPECT_NEAR(plain / seconds(k.m, {kFp8, 900e12, 73'728, kPools[3]}), k.both, 0.02);
    }
}

TEST(Scheduler, SamplesOfAPromptShareItsFullBlocks) {
    for (const int p : {1, 15, 16, 17, 32, 33, 150}) {
        Scheduler s({.blocks = 100});
        for (std::uint64_t j = 0; j < 4; ++j) s.add(j, text(p), 1);
        const Chunks chunks = s.step();
        const std::int64_t shared = (p - 1) / 16;
        ASSERT_EQ(chunks.size(), 4u);
        EXPECT_EQ(chunks[0].begin, 0);
        EXPECT_EQ(chunks[0].count, p);
        for (std::size_t j = 1; j < 4; ++j) {
            EXPECT_EQ(chunks[j].begin, 16 * shared) << p;
            EXPECT_EQ(chunks[j].count, p - 16 * shared) << p;
            EXPECT_TRUE(chunks[j].samples);
            for (int i = 0; i * 16 < p; ++i) {
                EXPECT_EQ(s.blocks(j)[i] == s.blocks(0)[i], i < shared) << p << " block " << i;
            }
        }
        for (std::uint64_t j = 0; j < 4; ++j) s.finish(j);
        expect_all_returned(s);
    }
}

TEST(Scheduler, AScoredPromptIsComputedButFoundByOthers) {
    Scheduler s({.blocks = 20});
    s.add(0, text(40), 1);
    s.add(1, text(40), 1, /*cached=*/false);
    s.add(2, text(40), 1);
    const Chunks chunks = s.step();
    EXPECT_EQ(chunks[1].count, 40);
    EXPECT_EQ(chunks[2].count, 8);
    for (std::uint64_t id = 0; id < 3; ++id) s.finish(id);
    s.add(3, text(48, 100), 1, /*cached=*/false);
    s.step();
    s.add(4, text(48, 100), 1);
    EXPECT_EQ(s.step()[0].begin, 32);
}

TEST(Scheduler, APreemptedRequestComputesAllButItsPrefixAgain) {
    for (const bool cache : {true, false}) {
        Rollout run({.blocks = 6, .block = 4, .prefix_cache = cache});
        run.add(0, text(4), 13);
        run.add(1, text(9, 100), 8);
        while (!run.scheduler.preempted(1)) run.step();
        EXPECT_EQ(run.scheduler.tokens(1).size(), 14u);  // 13 of them computed
        while (!run.over()) run.step();
        EXPECT_EQ(run.scheduler.counts().preemptions, 1);
        EXPECT_EQ(run.scheduler.counts().hit_tokens, cache ? 8 : 0);
        EXPECT_EQ(run.scheduler.counts().tokens, 16 + 16 + 13 - (cache ? 8 : 0));
        expect_all_returned(run.scheduler);
    }
}

TEST(Scheduler, NothingIsFoundAfterTheWeightsChange) {
    Rollout run({.blocks = 20});
    run.add(0, text(40), 2);
    run.step();
    EXPECT_THROW(run.scheduler.drop_prefix_cache(), Error);
    run.step();
    run.scheduler.drop_prefix_cache();
    run.add(1, text(40), 1);
    run.step();
    EXPECT_EQ(run.scheduler.counts().hit_tokens, 0);
    run.add(2, text(40), 1);
    run.step();
    EXPECT_EQ(run.scheduler.counts().hit_tokens, 32);
}

// 16 of 40 tokens of a prompt fill a block; half of the next is computed when the request goes.
TEST(Scheduler, WhatWasNotComputedIsNotFound) {
    Scheduler s({.blocks = 10, .max_batched_tokens = 24});
    s.add(0, text(40), 1);
    EXPECT_EQ(s.step()[0].count, 24);
    EXPECT_EQ(s.blocks(0).size(), 2u);
    s.finish(0);
    s.add(1, text(40), 1);
    EXPECT_EQ(s.step()[0].begin, 16);
}

TEST(Scheduler, FinishTakesRequestsOutWhereverTheyAre) {
    Scheduler s({.blocks = 4, .max_seqs = 1});
    for (std::uint64_t id = 0; id < 3; ++id) s.add(id, text(20), 5);
    EXPECT_EQ(s.step().size(), 1u);
    EXPECT_EQ(s.running(), 1);
    EXPECT_EQ(s.waiting(), 2);
    s.finish(1);
    s.finish(0);
    EXPECT_EQ(s.step()[0].id, 2u);
    EXPECT_TRUE(s.step().empty());  // until its token is there
    s.finish(2);
    EXPECT_TRUE(s.step().empty());
    expect_all_returned(s);
}

TEST(Scheduler, SaysWhatIsWrong) {
    EXPECT_THROW(Scheduler({.blocks = 0}), Error);
    EXPECT_THROW(Scheduler({.blocks = 1, .block = 0}), Error);
    EXPECT_THROW(Scheduler({.blocks = 1, .max_batched_tokens = 0}), Error);
    EXPECT_THROW(Scheduler({.blocks = 1, .max_seqs = 0}), Error);

    Scheduler s({.blocks = 2});
    EXPECT_THROW(s.add(1, {}, 1), Error);
    EXPECT_THROW(s.add(1, text(3), -1), Error);
    EXPECT_NO_THROW(s.add(1, text(30), 3));  // the last token needs no place
    EXPECT_THROW(s.add(1, text(3), 1), Error);
    EXPECT_NO_THROW(s.add(2, text(32), 0));
    EXPECT_THROW(s.add(3, text(33), 0), Error);
    try {
        s.add(3, text(30), 4);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.message(),
                  "request 3: 30 prompt tokens and 4 new ones take 3 blocks of 16 tokens, and the "
                  "key-value pool has 2");
    }
    EXPECT_EQ(s.waiting(), 2);

    EXPECT_THROW(s.append(1, 5), Error);  // nothing is computed
    s.step();
    EXPECT_NO_THROW(s.append(1, 5));
    EXPECT_THROW(s.append(1, 5), Error);
    s.step();
    s.append(1, 5);
    s.step();
    s.append(1, 5);
    s.step();
    EXPECT_THROW(s.append(1, 5), Error);  // it has its 3
    s.finish(1);
    EXPECT_THROW(s.finish(1), Error);
    EXPECT_THROW(s.blocks(1), Error);
}

// A model whose "keys and values" of a token are a hash of the text up to it. So a block that is
// shared, reused or filled wrongly is noticed by the first request that reads it.
struct Model {
    const Scheduler& scheduler;
    std::int64_t block;
    std::map<std::int64_t, std::uint64_t> memory = {};  // by place in the pool

    std::int64_t place(std::uint64_t id, std::int64_t position) const {
        const std::int64_t b = scheduler.blocks(id)[position / block];
        return b * block + position % block;
    }
    template <class Visit>  // (position, hash of the text that ends there)
    void each(const Scheduler::Chunk& c, Visit visit) const {
        std::uint64_t h = 0;
        for (std::int64_t i = 0; i < c.begin + c.count; ++i) {
            const std::int32_t token = scheduler.tokens(c.id)[i];
            h = (h + static_cast<std::uint64_t>(token) + 1) * 0x9E3779B97F4A7C15;
            visit(i, h);
        }
    }
    void run(const Chunks& chunks) {
        for (const auto& c : chunks) {
            each(c, [&](std::int64_t i, std::uint64_t h) {
                if (i >= c.begin) memory[place(c.id, i)] = h;
            });
        }
        for (const auto& c : chunks) {
            each(c, [&](std::int64_t i, std::uint64_t h) {
                ASSERT_EQ(memory[place(c.id, i)], h) << "request " << c.id << ", position " << i;
            });
        }
    }
};

// What must hold after any step. `live` has the requests, whose ids are their order of arrival, and
// how many tokens of each were computed before the step.
void check_step(const Scheduler& s, const SchedulerOptions& o, const Chunks& chunks,
                std::map<std::uint64_t, std::int64_t>& live) {
    std::int64_t budget = o.max_batched_tokens;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        const auto& c = chunks[i];
        EXPECT_GT(c.count, 0);
        budget -= c.count;
        if (i > 0) {
            EXPECT_LT(chunks[i - 1].id, c.id);
        }
        if (live[c.id] == 0) {
            EXPECT_EQ(c.begin % o.block, 0);  // a prefix hit
        } else {
            EXPECT_EQ(c.begin, live[c.id]);
        }
        live[c.id] = c.begin + c.count;
        EXPECT_EQ(c.samples, live[c.id] == std::ssize(s.tokens(c.id)));
    }
    EXPECT_GE(budget, 0);
    EXPECT_LE(s.running(), o.max_seqs);

    std::map<std::int32_t, std::int64_t> holders;
    bool someone_waits = false;
    for (auto& [id, computed] : live) {
        const auto blocks = s.blocks(id);
        if (blocks.empty()) {
            computed = 0;
            someone_waits = true;
            continue;
        }
        EXPECT_FALSE(someone_waits) << id << " has overtaken another";
        EXPECT_EQ(std::ssize(blocks), (computed + o.block - 1) / o.block);
        for (const std::int32_t b : blocks) ++holders[b];
    }
    EXPECT_EQ(s.pool().free(), s.pool().size() - std::ssize(holders));
    for (const auto& [b, count] : holders) EXPECT_EQ(s.pool().references(b), count);
}

TEST(Scheduler, KeepsItsBooksUnderAnyLoad) {
    std::int64_t preemptions = 0, hit_tokens = 0;
    for (std::uint32_t seed = 0; seed < 300; ++seed) {
        SCOPED_TRACE(fmt::format("seed {}", seed));
        std::mt19937 rng(seed);
        const auto draw = [&](int from, int to) {
            return from + static_cast<int>(rng() % static_cast<std::uint32_t>(to - from + 1));
        };
        const SchedulerOptions o = {.blocks = draw(6, 20),
                                    .block = draw(1, 5),
                                    .max_batched_tokens = draw(1, 40),
                                    .max_seqs = draw(1, 6),
                                    .prefix_cache = seed % 8 != 0};
        Scheduler s(o);
        Model model{s, o.block};
        std::map<std::uint64_t, std::int64_t> live, left;
        std::uint64_t arrived = 0;
        int steps = 0;
        while (arrived < 30 || !live.empty()) {
            ASSERT_LT(++steps, 10'000);
            for (int n = draw(0, 2); n > 0 && arrived < 30; --n, ++arrived) {
                const int most = static_cast<int>(o.blocks * o.block);
                const int prompt = draw(1, most * 2 / 3), output = draw(1, most - prompt + 1);
                // Of two letters, so that texts share their beginnings.
                std::vector<std::int32_t> tokens(static_cast<std::size_t>(prompt), draw(0, 1));
                if (draw(0, 1)) tokens[static_cast<std::size_t>(draw(0, prompt - 1))] ^= 1;
                s.add(arrived, std::move(tokens), output, draw(0, 4) > 0);
                live[arrived] = 0;
                left[arrived] = output;
            }
            const Chunks chunks = s.step();
            check_step(s, o, chunks, live);
            model.run(chunks);
            if (HasFailure()) return;
            for (const auto& c : chunks) {
                if (!c.samples) continue;
                s.append(c.id, draw(0, 1));
                if (--left[c.id] > 0) continue;
                s.finish(c.id);
                live.erase(c.id);
            }
            if (!live.empty() && draw(0, 9) == 0) {
                const auto cancelled =
                    std::next(live.begin(), draw(0, static_cast<int>(live.size()) - 1));
                s.finish(cancelled->first);
                live.erase(cancelled);
            }
            if (s.running() == 0 && draw(0, 3) == 0) {
                s.drop_prefix_cache();
                model.memory.clear();
            }
        }
        expect_all_returned(s);
        preemptions += s.counts().preemptions;
        hit_tokens += s.counts().hit_tokens;
    }
    EXPECT_GT(preemptions, 1000);  // or the load was none
    EXPECT_GT(hit_tokens, 1000);
}

}  // namespace
}  // namespace octavo
