// octavo bench: training steps on random tokens, matrix products; the other measurements are in
// files of their own.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

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
#include "runtime/roofline.h"
#include "train/setup.h"
#include "train/train_program.h"

namespace octavo {
namespace {

// Steps of one micro-batch before all others: until every delayed scale has its window, casts take
// an extra pass that later steps do not.
std::int64_t filling_steps(const Recipe& recipe) {
    const auto is_delayed = [](const Format& f) { return f.provider == Provider::delayed; };
    const bool delayed = (recipe.activation && is_delayed(*recipe.activation)) ||
                         (recipe.smooth && is_delayed(recipe.smooth->hidden));
    return delayed ? recipe.window + 1 : 0;
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
    void run() { run(config_.grad_accum); }
    void run(std::int64_t micro_batches) {
        const float weight = 1.0f / static_cast<float>(tokens());
        for (std::int64_t i = 0; i < micro_batches; ++i) {
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

// What bounds a step: its micro-batches and the update.
struct Bound {
    Rates rates;
    Floor floor{};
};

Bound bound_of(Backend& backend, const Program& program, std::int64_t micro_batches) {
    const Plan &first = program.plan("micro"), &update = program.plan("update");
    const Plan& next = micro_batches > 1 ? program.plan("micro_next") : first;
    const Plan* plans[] = {&first, &next, &update};
    Bound bound{measure_rates(backend, plans)};
    const auto add = [&](const Plan& plan, std::int64_t times) {
        const Floor floor = floor_of(plan, bound.rates);
        bound.floor.arithmetic += static_cast<double>(times) * floor.arithmetic;
        bound.floor.bytes += static_cast<double>(times) * floor.bytes;
    };
    add(first, 1);
    add(next, micro_batches - 1);
    add(update, 1);
    return bound;
}

// "0.231 of products and attention at bf16 712, e4m3 1310 TFLOP/s, 0.056 of bytes at 2990 GB/s".
std::string to_text(const Bound& bound) {
    std::string rates;
    for (const auto& [dtype, rate] : bound.rates.flops_per_s) {
        rates += fmt::format("{}{} {:.3g}", rates.empty() ? "" : ", ", name(dtype), rate * 1e-12);
    }
    return fmt::format(
        "{:.4f} of products and attention at {} TFLOP/s, {:.4f} of bytes at {:.3g} GB/s",
        bound.floor.arithmetic, rates, bound.floor.bytes, bound.rates.bytes_per_s * 1e-9);
}

int bench_step(const Args& args) {
    const RunConfig& config = args.config();
    const auto backend = open_backend(config.runtime);
    TrainProgram program(*backend, step_options_of(config), config.train.grad_accum > 1);
    const std::int64_t resident_before = resident_bytes();
    program.allocate(memory_limit(config, *backend));
    program.initialise(1);
    RandomSteps steps(program, config.train);
    const auto warmup = args.flag<std::int64_t>("warmup");
    const std::int64_t filling = warmup > 0 ? filling_steps(program.options().recipe) : 0;
    for (std::int64_t i = 0; i < filling; ++i) steps.run(1);
    for (std::int64_t i = 0; i < warmup; ++i) steps.run();
    std::vector<double> times;
    backend->synchronize();
    LoadSampler sampler(*backend);
    for (std::int64_t i = 0; i < args.flag<std::int64_t>("repeats"); ++i) {
        const auto start = Clock::now();
        steps.run();
        backend->synchronize();
        times.push_back(seconds_since(start));
    }
    const auto load = sampler.stop();
    const std::int64_t resident = peak_resident_bytes();  // without what the next line takes
    std::optional<Bound> bound;
    try {
        bound = bound_of(*backend, program.program(), config.train.grad_accum);
    } catch (const Error& e) {  // the step leaves no room for products and copies
        fmt::print(stderr, "no roofline: {}\n", e.message());
    }
    const Architecture arch = architecture_of(config);
    const double step_s = median(times);
    const double tokens_per_s = static_cast<double>(steps.tokens()) / step_s;
    const double flops = tokens_per_s * flops_per_token(arch, config.train.seq);
    const double planned = static_cast<double>(program.program().total_bytes() + resident_before);
    const StateFormats states = recipe_of(config).states;

    Json j = machine_facts(*backend);
    j["bench"] = "step";
    j["model"] = config.model.preset.empty() ? describe(arch) : config.model.preset;
    j["parameters"] = parameter_count(arch);
    j["recipe"] = config.recipe.name;
    j["options"] = options_of(config);
    j["batch"] = config.train.batch;
    j["seq"] = config.train.seq;
    j["grad_accum"] = config.train.grad_accum;
    j["recompute"] = config.runtime.recompute;
    j["states"] = fmt::format("{} {} {} {}", name(states.master), name(states.gradient),
                              name(states.m), name(states.v));
    j["step_s"] = step_s;
    j["tokens_per_s"] = tokens_per_s;
    j["tflops"] = flops * 1e-12;
    for (const auto& [fact, mean] : load) j[fact] = mean;
    if (bound) {
        for (const auto& [dtype, rate] : bound->rates.flops_per_s) {
            j["gemm_tflops"][std::string(name(dtype))] = rate * 1e-12;
        }
        j["copy_gb_per_s"] = bound->rates.bytes_per_s * 1e-9;
        j["roofline_s"] = bound->floor.seconds();
        j["share_of_roofline"] = bound->floor.seconds() / step_s;
    }
    j["planned_gb"] = planned * 1e-9;
    j["peak_resident_gb"] = static_cast<double>(resident) * 1e-9;
    fmt::print("{:<24} {:.1f}\n{:<24} {:.4f} s (median of {})\n{:<24} {:.3f}\n", "tokens/s",
               tokens_per_s, "step", step_s, times.size(), "model TFLOP/s", flops * 1e-12);
    if (bound) {
        fmt::print("{:<24} {:.1f} % (at least {:.4f} s: {})\n", "share of the roofline",
                   100 * bound->floor.seconds() / step_s, bound->floor.seconds(), to_text(*bound));
    }
    fmt::print("{:<24} {:.3f} GB, planned {:.3f} GB\n", "peak resident memory",
               static_cast<double>(resident) * 1e-9, planned * 1e-9);
    for (const auto& [fact, mean] : load) {
        fmt::print("{:<24} {} {:.0f}\n", "while it ran", fact, mean);
    }
    if (args.flag<bool>("breakdown")) {
        for (const char* plan : {"micro", "update"}) {
            j["breakdown_ms"][plan] = print_breakdown(*backend, program.program().plan(plan), plan);
        }
    }
    append_result(args, j);
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
                                   {e4m3, e4m3, bf16, dgrad, false, kRuns, kSquares},
                                   {e4m3, e4m3, f32, wgrad, true, kRuns, kRuns},
                                   {e4m3, e4m3, bf16, fprop, false, kMicro32, kPerTensor},
                                   {e4m3, e4m3, bf16, fprop, false, kMicro64, kPerTensor},
                                   {e4m3, e4m3, bf16, fprop, false, kMicro128, kPerTensor},
                                   {e4m3, e4m3, bf16, dgrad, false, kMicro32, kPerTensor},
                                   {e4m3, e4m3, bf16, dgrad, false, kMicro64, kPerTensor},
                                   {e4m3, e4m3, bf16, dgrad, false, kMicro128, kPerTensor},
                                   {e4m3, e4m3, f32, wgrad, true, kMicro32, kMicro32},
                                   {e4m3, e4m3, f32, wgrad, true, kMicro64, kMicro64},
                                   {e4m3, e4m3, f32, wgrad, true, kMicro128, kMicro128}};
    const auto backend = open_backend(args.config().runtime);
    const auto m = args.flag<std::int64_t>("m"), n = args.flag<std::int64_t>("n"),
               k = args.flag<std::int64_t>("k");
    const auto samples = static_cast<int>(args.flag<std::int64_t>("samples"));
    fmt::print("{} x {} x {}; error: RMS of {} elements against sums in f64, relative\n", m, n, k,
               samples);
    fmt::print("{:<56} {:>10} {:>10}  {}\n", "product", "TFLOP/s", "error", "kernel");
    const auto& only = args.flag<std::vector<std::string>>("only");
    const auto wanted = [&](const std::string& product) {
        return only.empty() || std::ranges::any_of(only, [&](const std::string& part) {
                   return product.find(part) != std::string::npos;
               });
    };
    for (const GemmCase& c : kCases) {
        if (!wanted(text(c))) continue;
        GemmMeasurement product(*backend, c, m, n, k);
        const double error = samples > 0 ? product.sampled_error(samples) : 0;
        LoadSampler sampler(*backend);
        const double tflops = product.flops_per_s(args.flag<double>("seconds")) * 1e-12;
        const auto load = sampler.stop();
        fmt::print("{:<56} {:>10.4f} {:>10.2e}  {}\n", text(c), tflops, error, product.kernel());
        Json j = machine_facts(*backend);
        j["bench"] = "gemm";
        j["product"] = text(c);
        j["m"] = m;
        j["n"] = n;
        j["k"] = k;
        j["tflops"] = tflops;
        for (const auto& [fact, mean] : load) j[fact] = mean;
        if (samples > 0) j["error"] = error;
        j["kernel"] = product.kernel();
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
                        {.name = "samples",
                         .initial = std::int64_t{1000},
                         .help = "elements of each result that are checked; 0: none",
                         .rule = between(0, 1 << 20)},
                        {.name = "only",
                         .initial = std::vector<std::string>(),
                         .help = "products with one of these in their names, such as 128x128"},
                        json_flag()},
              .shorthands = {{"backend", "runtime.backend"}}};
    return {.name = "bench",
            .help = "Measures this machine.",
            .actions = {step, gemm, bench_op_verb(), bench_generate_verb(), bench_load_verb()}};
}

}  // namespace octavo
