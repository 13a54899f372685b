// octavo bench: training steps on random tokens, matrix products; the other measurements are in
// files of their own.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/process.h"
#include "base/rng.h"
#include "base/version.h"
#include "cli/bench_generate.h"
#include "cli/bench_load.h"
#include "cli/bench_op.h"
#include "cli/bench_report.h"
#include "cli/device.h"
#include "cli/verbs.h"
#include "runtime/gemm_rate.h"
#include "train/setup.h"
#include "train/train_program.h"

namespace octavo {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Steps before the clock starts: until every delayed scale has its window, casts take an extra pass
// that later steps do not.
std::int64_t warmup_steps(const Args& args, const Recipe& recipe) {
    const auto asked = args.flag<std::int64_t>("warmup");
    const bool delayed = recipe.activation && recipe.activation->provider == Provider::delayed;
    return delayed && asked > 0 ? std::max<std::int64_t>(asked, recipe.window + 1) : asked;
}

// One optimizer step on random tokens, micro-batches included.
class RandomSteps {
  public:
    RandomSteps(TrainProgram& program, const RunConfig::Train& config)
        : program_(program), config_(config) {
        const auto n = static_cast<std::size_t>(config.batch * config.seq);
        const auto vocabulary =
            static_cast<std::uint64_t>(program.options().architecture.vocab_size);
        for (std::size_t i = 0; i < n; ++i) {
            ids_.push_back(static_cast<std::int32_t>(Rng(1, 0).bits64(i) % vocabulary));
            targets_.push_back(static_cast<std::int32_t>(Rng(1, 1).bits64(i) % vocabulary));
            if (!program.options().documents) continue;
            starts_.push_back(0);  // one document
            positions_.push_back(static_cast<std::int32_t>(i) %
                                 static_cast<std::int32_t>(config.seq));
        }
    }

    std::int64_t tokens() const { return std::ssize(ids_) * config_.grad_accum; }
    void run() {
        const float weight = 1.0f / static_cast<float>(tokens());
        for (std::int64_t i = 0; i < config_.grad_accum; ++i) {
            program_.micro(ids_, targets_, weight, i == 0, {starts_, positions_});
        }
        program_.update(1e-4, ++step_);
    }

  private:
    TrainProgram& program_;
    const RunConfig::Train& config_;
    std::vector<std::int32_t> ids_, targets_, starts_, positions_;
    std::int64_t step_ = 0;
};

int bench_step(const Args& args) {
    const RunConfig& config = args.config();
    const auto backend = open_backend(config.runtime);
    TrainProgram program(*backend, step_options_of(config), config.train.grad_accum > 1);
    const std::int64_t resident_before = resident_bytes();
    program.allocate(memory_limit(config, *backend));
    program.initialise(1);
    RandomSteps steps(program, config.train);
    const std::int64_t warmup = warmup_steps(args, program.options().recipe);
    for (std::int64_t i = 0; i < warmup; ++i) steps.run();
    std::vector<double> times;
    backend->synchronize();
    for (std::int64_t i = 0; i < args.flag<std::int64_t>("repeats"); ++i) {
        const auto start = Clock::now();
        steps.run();
        backend->synchronize();
        times.push_back(seconds_since(start));
    }
    const std::int64_t resident = peak_resident_bytes();  // without what the next line takes
    const GemmRate peak = measure_gemm_rate(*backend, Dtype::bf16, backend->yardstick());
    const Architecture arch = architecture_of(config);
    const double tokens_per_s = static_cast<double>(steps.tokens()) / median(times);
    const double flops = tokens_per_s * flops_per_token(arch, config.train.seq);
    const double planned = static_cast<double>(program.program().total_bytes() + resident_before);

    Json j = machine_facts(*backend);
    j["bench"] = "step";
    j["model"] = config.model.preset.empty() ? describe(arch) : config.model.preset;
    j["parameters"] = parameter_count(arch);
    j["recipe"] = config.recipe.name;
    j["batch"] = config.train.batch;
    j["seq"] = config.train.seq;
    j["grad_accum"] = config.train.grad_accum;
    j["recompute"] = config.runtime.recompute;
    const StateFormats states = recipe_of(config).states;
    j["states"] = fmt::format("{} {} {} {}", name(states.master), name(states.gradient),
                              name(states.m), name(states.v));
    j["step_s"] = median(times);
    j["tokens_per_s"] = tokens_per_s;
    j["tflops"] = flops * 1e-12;
    j["gemm_bf16_tflops"] = peak.flops_per_s * 1e-12;
    j["share_of_gemm_rate"] = flops / peak.flops_per_s;
    j["planned_gb"] = planned * 1e-9;
    j["peak_resident_gb"] = static_cast<double>(resident) * 1e-9;
    fmt::print(
        "{:<24} {:.1f}\n{:<24} {:.4f} s (median of {})\n{:<24} {:.3f}\n"
        "{:<24} {:.1f} % of {:.3f} TFLOP/s ({})\n{:<24} {:.3f} GB, planned {:.3f} GB\n",
        "tokens/s", tokens_per_s, "step", median(times), times.size(), "model TFLOP/s",
        flops * 1e-12, "share of bf16 GEMM rate", 100 * flops / peak.flops_per_s,
        peak.flops_per_s * 1e-12, peak.kernel, "peak resident memory",
        static_cast<double>(resident) * 1e-9, planned * 1e-9);
    append_result(args, j);
    if (args.flag<bool>("breakdown")) {
        print_breakdown(*backend, program.program().plan("micro"), "micro");
        print_breakdown(*backend, program.program().plan("update"), "update");
    }
    return 0;
}

std::string text(const GemmCase& c) {
    static constexpr std::string_view kKinds[] = {"plain", "fprop", "dgrad", "wgrad"};
    const bool plain = !is_fp8(c.a) || (c.a_scaling == kPerTensor && c.b_scaling == kPerTensor);
    const std::string scales =
        plain ? "" : fmt::format(", {} x {}", to_string(c.a_scaling), to_string(c.b_scaling));
    return fmt::format("{} {} x {} -> {}{}{}", kKinds[static_cast<int>(c.kind)], name(c.a),
                       name(c.b), name(c.out), c.accumulate ? " + acc" : "", scales);
}

// The products of a layer of experts, which only the GPU has a kernel of its own for.
int bench_grouped(const Args& args) {
    const auto experts = args.flag<std::int64_t>("experts"), m = args.flag<std::int64_t>("m"),
               n = args.flag<std::int64_t>("n"), k = args.flag<std::int64_t>("k");
    const auto rates = measure_gpu_grouped_products(experts, m, n, k, args.flag<double>("seconds"));
    fmt::print("{} experts (N, K) = ({}, {}) with {} rows in all\n{:<56} {:>10}\n", experts, n, k,
               m, "product", "TFLOP/s");
    for (const auto& [product, rate] : rates) {
        fmt::print("{:<56} {:>10.4f}\n", product, rate * 1e-12);
        Json j{{"octavo", kVersion}, {"backend", "cuda"}};
        for (const auto& [fact, value] : gpu_facts()) j[fact] = value;
        j["bench"] = "grouped_gemm";
        j["product"] = product;
        j["experts"] = experts;
        j["m"] = m;
        j["n"] = n;
        j["k"] = k;
        j["tflops"] = rate * 1e-12;
        append_result(args, j);
    }
    return 0;
}

int bench_gemm(const Args& args) {
    if (args.flag<std::int64_t>("experts") > 0) return bench_grouped(args);
    constexpr int kSamples = 1000;
    constexpr Dtype f32 = Dtype::f32, bf16 = Dtype::bf16, e4m3 = Dtype::e4m3, e5m2 = Dtype::e5m2;
    constexpr MatmulKind fprop = MatmulKind::fprop, dgrad = MatmulKind::dgrad;
    constexpr MatmulKind wgrad = MatmulKind::wgrad;
    constexpr Scaling kRow{Granularity::row}, kRuns{Granularity::block_1x128},
        kSquares{Granularity::block_128x128}, kMicro32{Granularity::micro, f32, 32},
        kMicro64{Granularity::micro, f32, 64}, kMicro128{Granularity::micro, f32, 128};
    constexpr GemmCase kCases[] = {{f32, f32, f32},
                                   {bf16, bf16, bf16},
                                   {bf16, bf16, f32},
                                   {bf16, bf16, f32, wgrad, true},
                                   {e4m3, e4m3, bf16},
                                   {e4m3, e4m3, f32},
                                   {e4m3, e4m3, f32, dgrad},
                                   {e5m2, e4m3, bf16, dgrad},
                                   {e5m2, e4m3, f32, fprop},
                                   {e5m2, e4m3, f32, dgrad},
                                   {e5m2, e4m3, f32, wgrad, true},
                                   {e4m3, e4m3, bf16, fprop, false, kRow, kRow},
                                   {e4m3, e4m3, bf16, fprop, false, kRuns, kSquares},
                                   {e4m3, e4m3, f32, wgrad, true, kRuns, kRuns},
                                   {e4m3, e4m3, bf16, fprop, false, kMicro32, kPerTensor},
                                   {e4m3, e4m3, bf16, fprop, false, kMicro64, kPerTensor},
                                   {e4m3, e4m3, bf16, fprop, false, kMicro128, kPerTensor},
                                   {e4m3, e4m3, f32, wgrad, true, kMicro32, kMicro32},
                                   {e4m3, e4m3, f32, wgrad, true, kMicro64, kMicro64},
                                   {e4m3, e4m3, f32, wgrad, true, kMicro128, kMicro128}};
    const auto backend = open_backend(args.config().runtime);
    const auto m = args.flag<std::int64_t>("m"), n = args.flag<std::int64_t>("n"),
               k = args.flag<std::int64_t>("k");
    fmt::print("{} x {} x {}; error: RMS of {} elements against sums in f64, relative\n", m, n, k,
               kSamples);
    fmt::print("{:<56} {:>10} {:>10}  {}\n", "product", "TFLOP/s", "error", "kernel");
    const auto& only = args.flag<std::string>("only");
    for (const GemmCase& c : kCases) {
        if (text(c).find(only) == std::string::npos) continue;
        const GemmRate rate =
            measure_gemm(*backend, c, m, n, k, args.flag<double>("seconds"), kSamples);
        fmt::print("{:<56} {:>10.4f} {:>10.2e}  {}\n", text(c), rate.flops_per_s * 1e-12,
                   rate.error, rate.kernel);
        Json j = machine_facts(*backend);
        j["bench"] = "gemm";
        j["product"] = text(c);
        j["m"] = m;
        j["n"] = n;
        j["k"] = k;
        j["tflops"] = rate.flops_per_s * 1e-12;
        j["error"] = rate.error;
        j["kernel"] = rate.kernel;
        append_result(args, j);
    }
    return 0;
}

Flag size_flag(const char* name) {
    return {.name = name,
            .initial = std::int64_t{1024},
            .help = "extent of the product",
            .rule = between(1, 1 << 20)};
}

}  // namespace

Verb bench_verb() {
    Verb step{
        .name = "step",
        .help = "Whole training steps on random tokens.",
        .run = bench_step,
        .config = true,
        .flags = {{.name = "repeats",
                   .initial = std::int64_t{5},
                   .help = "timed steps, of which the median counts",
                   .rule = between(1, 1 << 20)},
                  {.name = "warmup",
                   .initial = std::int64_t{2},
                   .help = "steps before the clock starts; at least until delayed scales have "
                           "their windows, unless 0",
                   .rule = between(0, 1 << 20)},
                  {.name = "breakdown", .initial = false, .help = "also the time by op and kernel"},
                  json_flag()},
        .shorthands = {{"model", "model.preset"},
                       {"recipe", "recipe.name"},
                       {"backend", "runtime.backend"},
                       {"batch", "train.batch"},
                       {"seq", "train.seq"}}};
    Verb gemm{.name = "gemm",
              .help = "Matrix products (M, K) x (N, K)^T as training has them: rate and error.",
              .run = bench_gemm,
              .config = true,
              .flags = {size_flag("m"),
                        size_flag("n"),
                        size_flag("k"),
                        {.name = "experts",
                         .initial = std::int64_t{0},
                         .help = "time the grouped products of so many experts (N, K) that share "
                                 "M rows, on a GPU",
                         .rule = between(0, 511)},
                        {.name = "seconds",
                         .initial = 0.5,
                         .help = "to measure each product for",
                         .rule = at_least(0)},
                        {.name = "only",
                         .initial = std::string(),
                         .help = "products with this in their names, such as 128x128"},
                        json_flag()},
              .shorthands = {{"backend", "runtime.backend"}}};
    return {.name = "bench",
            .help = "Measures this machine.",
            .actions = {step, gemm, bench_op_verb(), bench_generate_verb(), bench_load_verb()}};
}

}  // namespace octavo
