#include "cli/bench_generate.h"

#include <fmt/format.h>

#include <set>

#include "base/convert.h"
#include "base/rng.h"
#include "cli/bench_report.h"
#include "cli/device.h"
#include "cli/text_engine.h"
#include "engine/engine.h"
#include "runtime/roofline.h"
#include "train/setup.h"
#include "train/train_program.h"

namespace octavo {
namespace {

// Weights as large as a fresh model's, norms of 1. One stretch of random numbers again and again:
// what they are does not matter, that they are not all alike does.
void random_weights(std::span<const WeightTarget> weights) {
    constexpr std::int64_t kStretch = 1 << 20;
    std::vector<float> normal(kStretch), ones(kStretch, 1.0f);
    const Rng rng(1, 0);
    for (std::int64_t i = 0; i < kStretch; ++i) {
        normal[i] = static_cast<float>(kSigma) * rng.normal(static_cast<std::uint64_t>(i));
    }
    for (const WeightTarget& w : weights) {
        const auto size = static_cast<std::int64_t>(size_of(w.dtype));
        const std::int64_t n = w.shape.elements();
        std::vector<std::byte> values(static_cast<std::size_t>(n * size));
        const std::vector<float>& from = w.shape.rank() == 1 ? ones : normal;
        for (std::int64_t at = 0; at < n; at += kStretch) {
            convert(from.data(), Dtype::f32, values.data() + at * size, w.dtype,
                    std::min(kStretch, n - at));
        }
        w.write(values);
    }
}

// Bytes of State that a run of a plan reads whole: all but embedding tables and the cache.
double weight_bytes(const Plan& plan) {
    const Graph& g = plan.graph();
    std::map<std::int32_t, double> loaded;
    for (const Node& n : g.nodes()) {
        const auto* load = std::get_if<Load>(&n.op);
        if (load && !load->name.starts_with("kv/")) {
            loaded[n.out[0].id] = static_cast<double>(total_bytes(load->type));
        }
    }
    double sum = 0;
    for (const auto& [value, bytes] : loaded) {
        const bool read = std::ranges::any_of(g.nodes(), [&](const Node& n) {
            return !std::holds_alternative<Embedding>(n.op) &&
                   std::ranges::any_of(n.in, [&](Value v) { return v.id == value; });
        });
        if (read) sum += bytes;
    }
    return sum;
}

struct Batch {
    std::int64_t texts, prompt;

    void submit(Engine& engine, std::int64_t tokens) const {
        for (std::int64_t i = 0; i < texts; ++i) {
            TextRequest request{
                .prompt = {}, .max_tokens = tokens, .sequence = static_cast<std::uint64_t>(i)};
            const Rng rng(2, static_cast<std::uint64_t>(i));
            for (std::int64_t t = 0; t < prompt; ++t) {
                request.prompt.push_back(
                    static_cast<std::int32_t>(rng.bits64(static_cast<std::uint64_t>(t)) %
                                              static_cast<std::uint64_t>(engine.vocabulary())));
            }
            engine.submit(std::move(request));
        }
    }
};

// Seconds until every prompt has its first token.
double run_prompts(Engine& engine, const Batch& batch) {
    batch.submit(engine, 1);
    const auto start = Clock::now();
    for (std::int64_t ended = 0; ended < batch.texts;) ended += std::ssize(engine.step());
    return seconds_since(start);
}

// Seconds of the plans of a step by themselves, one after the other without the host.
double time_plans(Backend& backend, Program& program, const std::vector<std::string>& plans) {
    constexpr int kRounds = 10;
    backend.synchronize();
    const auto start = Clock::now();
    for (int i = 0; i < kRounds; ++i) {
        for (const std::string& plan : plans) program.run(plan);
    }
    backend.synchronize();
    return seconds_since(start) / kRounds;
}

// Seconds of each of `steps` steps in which every text gets a token.
std::vector<double> run_decoding(Engine& engine, const Batch& batch, std::int64_t steps) {
    // The first text gets a token in every step that another's prompt is run in.
    constexpr std::int64_t kMost = 1 << 20;
    batch.submit(engine, std::min(kMost, engine.context() - batch.prompt));
    std::set<std::uint64_t> started;
    while (std::ssize(started) < batch.texts) {
        for (const TokenEvent& e : engine.step()) started.insert(e.id);
    }
    std::vector<double> times;
    for (std::int64_t i = 0; i < steps; ++i) {
        const auto start = Clock::now();
        const auto events = engine.step();
        times.push_back(seconds_since(start));
        check(std::ssize(events) == batch.texts, "a step gave {} tokens to {} texts", events.size(),
              batch.texts);
    }
    for (const std::uint64_t id : started) engine.cancel(id);
    return times;
}

int bench_generate(const Args& args) {
    const RunConfig& config = args.config();
    const Architecture arch = architecture_of(config);
    const Recipe recipe = recipe_of(config);
    check_layers(recipe, arch);
    const Batch batch{args.flag<std::int64_t>("batch"), args.flag<std::int64_t>("prompt")};
    const auto steps = args.flag<std::int64_t>("tokens");
    EngineOptions options{.max_seqs = batch.texts,
                          .max_batched_tokens = args.flag<std::int64_t>("max-batched-tokens"),
                          .prefix_cache = false};
    take_cache_flags(args, options);
    const std::int64_t prompt_budget = options.max_batched_tokens - batch.texts;
    if (prompt_budget <= 0) {
        fail_usage(
            "--batch: expected fewer texts than tokens of a step, got {} and {}\n  Raise "
            "--max-batched-tokens: prompts run in steps in which running texts get a token each.",
            batch.texts, options.max_batched_tokens);
    }
    // At most: the last prompts run beside all other texts.
    const std::int64_t prompt_steps =
        (batch.texts * batch.prompt + prompt_budget - 1) / prompt_budget;
    options.context = batch.prompt + steps + prompt_steps + 8;
    const auto backend = open_backend(config.runtime);
    Engine engine(*backend, arch, recipe, options);
    const std::int64_t slots = engine.scheduler().pool().size() * options.block;
    if (slots <
        batch.texts * ((options.context + options.block - 1) / options.block * options.block)) {
        fail(
            "the cache has room for {} tokens, and {} texts may have {} each\n  Lower --batch, "
            "--prompt "
            "or --tokens.",
            slots, batch.texts, options.context);
    }
    engine.load(random_weights);

    (void)run_prompts(engine, batch);  // plans are recorded when they run again
    const double prompt_s = run_prompts(engine, batch);
    (void)run_decoding(engine, batch, 3);
    const double step_s = median(run_decoding(engine, batch, steps));

    const double prompt_tokens = static_cast<double>(batch.texts * batch.prompt);
    // Of training a third is the forward part; the head sees one token of each prompt.
    const double head = 2.0 * static_cast<double>(arch.vocab_size * arch.hidden_size);
    const double prompt_flops = prompt_tokens * (flops_per_token(arch, batch.prompt) / 3 - head) +
                                static_cast<double>(batch.texts) * head;
    Program& program = engine.program();
    const std::vector<std::string> plans{engine.decode_plan(batch.texts),
                                         engine.head_plan(batch.texts)};
    double weights = 0;
    for (const std::string& plan : plans) weights += weight_bytes(program.plan(plan));
    const double cache = static_cast<double>(batch.texts) *
                         static_cast<double>(batch.prompt + prompt_steps / 2 + steps / 2) *
                         static_cast<double>(engine.token_bytes());

    Json j = machine_facts(*backend);
    j["bench"] = "generate";
    j["model"] = config.model.preset;
    j["recipe"] = config.recipe.name;
    j["options"] = options_of(config);
    j["kv"] = args.flag<std::string>("kv");
    j["attention"] = args.flag<std::string>("attention");
    j["batch"] = batch.texts;
    j["prompt"] = batch.prompt;
    j["max_batched_tokens"] = options.max_batched_tokens;
    j["prompt_tokens_per_s"] = prompt_tokens / prompt_s;
    j["prompt_tflops"] = prompt_flops / prompt_s * 1e-12;
    j["decode_step_s"] = step_s;
    j["decode_tokens_per_s"] = static_cast<double>(batch.texts) / step_s;
    j["decode_plans_s"] = time_plans(*backend, program, plans);
    j["weight_gb"] = weights * 1e-9;
    j["cache_gb"] = cache * 1e-9;
    fmt::print(
        "{:<24} {:.1f} tokens/s, {:.1f} TFLOP/s\n{:<24} {:.1f} tokens/s, {:.3f} ms a step, {:.3f} "
        "of them plans\n"
        "{:<24} {:.3f} GB of weights, {:.3f} GB of keys and values\n",
        "prompts", prompt_tokens / prompt_s, prompt_flops / prompt_s * 1e-12, "decoding",
        static_cast<double>(batch.texts) / step_s, step_s * 1e3,
        j["decode_plans_s"].get<double>() * 1e3, "a step reads", weights * 1e-9, cache * 1e-9);
    if (backend->name() != "cpu") {
        const double rate = measure_copy_rate(*backend);
        const double bound = (weights + cache) / rate;
        j["copy_gb_per_s"] = rate * 1e-9;
        j["share_of_bandwidth"] = bound / step_s;
        fmt::print("{:<24} {:.1f} % of {:.0f} GB/s ({:.3f} ms)\n", "share of the bound",
                   100 * bound / step_s, rate * 1e-9, bound * 1e3);
    }
    if (args.flag<bool>("breakdown")) {
        const std::pair<const char*, std::string> parts[] = {
            {"decoding", plans[0]},
            {"head", plans[1]},
            {"prompts", engine.prompt_plan(options.max_batched_tokens)}};
        for (const auto& [title, plan] : parts) {
            j["breakdown_ms"][title] = print_breakdown(*backend, program.plan(plan), title);
        }
    }
    append_result(args, j);
    return 0;
}

}  // namespace

Verb bench_generate_verb() {
    return {
        .name = "generate",
        .help = "Generation by a model with random weights: prompts, then tokens.",
        .run = bench_generate,
        .config = true,
        .flags = {{.name = "batch",
                   .initial = std::int64_t{16},
                   .help = "texts side by side",
                   .rule = between(1, 1 << 12)},
                  {.name = "prompt",
                   .initial = std::int64_t{128},
                   .help = "tokens of each prompt",
                   .rule = between(1, 1 << 20)},
                  {.name = "tokens",
                   .initial = std::int64_t{32},
                   .help = "timed steps, of which the median counts",
                   .rule = between(1, 1 << 20)},
                  {.name = "max-batched-tokens",
                   .initial = std::int64_t{2048},
                   .help = "of a step",
                   .rule = between(1, 1 << 20)},
                  kv_flag(),
                  attention_flag(),
                  {.name = "breakdown", .initial = false, .help = "also the time by op and kernel"},
                  json_flag()},
        .shorthands = {
            {"model", "model.preset"}, {"recipe", "recipe.name"}, {"backend", "runtime.backend"}}};
}

}  // namespace octavo
