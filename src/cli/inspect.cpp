// octavo inspect: what a run will do (graph, plan, memory), what it did (scales), and what a model
// computes (run).
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/weight_blocks.h"
#include "cli/device.h"
#include "cli/inspect_tokens.h"
#include "cli/model_folder.h"
#include "cli/verbs.h"
#include "graph/provider.h"
#include "report/scales_table.h"
#include "train/inspect_quantise.h"
#include "train/inspect_run.h"
#include "train/inspect_swiglu.h"
#include "train/setup.h"
#include "train/train_program.h"

namespace octavo {
namespace {

const Flag kGraphFlag{.name = "graph",
                      .initial = std::string("micro"),
                      .help = "which graph of the step",
                      .rule = one_of({"micro", "micro_next", "micro_measured", "moments", "update",
                                      "update_measured", "turn_windows", "eval", "refresh"})};

// Compiled but without memory: nothing is allocated to look at a plan.
TrainProgram compile(const Args& args, Backend& backend) {
    return {backend, step_options_of(args.config()), args.config().train.grad_accum > 1};
}

const Plan& chosen_plan(const Args& args, const TrainProgram& program) {
    const auto& name = args.flag<std::string>("graph");
    if (!program.program().has(name)) {
        fail_usage(
            "--graph {}: this run has no such graph\n  micro_next is there with "
            "train.grad_accum > 1, micro_measured with diag.interval > 0 and 8-bit tensors or "
            "SwiGLUs, moments with diag.interval > 0 and second moments in 8 bits, "
            "update_measured with predicted scales, turn_windows with smooth.export_window.",
            name);
    }
    return program.program().plan(name);
}

int inspect_graph(const Args& args) {
    const auto backend = open_backend(args.config().runtime);
    const TrainProgram program = compile(args, *backend);
    const Graph& graph = chosen_plan(args, program).graph();
    StoredProviders stored;
    for (const char* name : {"micro", "update"}) {
        note_stores(program.program().plan(name).graph(), stored);
    }
    const bool dot = args.flag<std::string>("format") == "dot";
    fmt::print("{}", dot ? to_graphviz(graph, stored) : to_text(graph, stored));
    return 0;
}

int inspect_plan(const Args& args) {
    const auto backend = open_backend(args.config().runtime);
    const TrainProgram program = compile(args, *backend);
    fmt::print("{}", to_text(chosen_plan(args, program)));
    return 0;
}

int inspect_memory(const Args& args) {
    const auto backend = open_backend(args.config().runtime);
    const TrainProgram program = compile(args, *backend);
    fmt::print("{}", memory_text(program));
    const Plan& plan = program.program().plan("micro");
    const Peak peak = find_peak(plan.memory());
    const Node& node = plan.graph().node(peak.node);
    fmt::print("\nactivations peak at {} ({}): {:.3f} MB, of which the largest are\n",
               op_name(node.op), node.label, static_cast<double>(peak.bytes) * 1e-6);
    const auto rows = std::min<std::size_t>(peak.blocks.size(), 20);
    for (const Block& b : std::span(peak.blocks).first(rows)) {
        fmt::print("  {:>12.3f} MB  {:<28} {}\n", static_cast<double>(b.bytes) * 1e-6,
                   to_string(plan.graph().type(b.value)), plan.graph().value_name(b.value));
    }
    return 0;
}

int inspect_run(const Args& args) {
    const RunConfig::Runtime runtime{.backend = args.flag<std::string>("backend")};
    const auto backend = open_backend(runtime);
    run_inspection({.model = args.flag<std::string>("model"),
                    .batch = args.flag<std::string>("batch"),
                    .out = args.flag<std::string>("out"),
                    .recipe = recipe_named(args.flag<std::string>("recipe")),
                    .gradients = args.flag<bool>("grads"),
                    .fuse = !args.flag<bool>("no-fuse")},
                   *backend);
    return 0;
}

// The formats of `inspect quantise --as`, with the rounding of their scales unless it is asked for.
struct NamedFormat {
    std::string_view name;
    Format format;
};
const NamedFormat kFormats[] = {
    {"tensor", {}},
    {"row", {.granularity = Granularity::row, .rounding = ScaleRounding::exact}},
    {"block1x128",
     {.granularity = Granularity::block_1x128,
      .rounding = ScaleRounding::exact,
      .floor = kBlockFloor}},
    {"block128x128",
     {.granularity = Granularity::block_128x128,
      .rounding = ScaleRounding::exact,
      .floor = kBlockFloor}},
    {"moss", {.granularity = Granularity::micro, .rounding = ScaleRounding::exact, .group = 32}},
};

std::vector<std::string> format_names() {
    std::vector<std::string> names;
    for (const NamedFormat& f : kFormats) names.emplace_back(f.name);
    return names;
}

Format chosen_format(const Args& args) {
    const auto& as = args.flag<std::string>("as");
    Format format = std::ranges::find(kFormats, as, &NamedFormat::name)->format;
    format.dtype = *dtype_named(args.flag<std::string>("dtype"));
    const bool moss = format.granularity == Granularity::micro;
    const auto group = args.flag<std::int64_t>("group");
    if (group != 0 && !moss) fail_usage("--group: only moss has groups, got --as {}", as);
    if (group != 0 && group != 32 && group != 64 && group != 128) {
        fail_usage("--group: expected 32, 64 or 128, got {}", group);
    }
    if (group != 0) format.group = static_cast<int>(group);
    const auto& scale = args.flag<std::string>("scale");
    if (moss && scale == "pow2")
        fail_usage("--scale pow2: moss has powers of two below exact scales");
    if (scale != "auto") {
        format.rounding = scale == "pow2" ? ScaleRounding::pow2 : ScaleRounding::exact;
    }
    if (args.flag<std::string>("rule") == "te") {
        if (!as.starts_with("block")) fail_usage("--rule te: only blocks have it, got --as {}", as);
        format.block_rule = BlockRule::te;
    }
    return format;
}

int inspect_quantised(const Args& args) {
    const auto backend = open_backend({.backend = args.flag<std::string>("backend")});
    const auto errors = inspect_quantise({.in = args.flag<std::string>("in"),
                                          .out = args.flag<std::string>("out"),
                                          .tensor = args.flag<std::string>("tensor"),
                                          .format = chosen_format(args)},
                                         *backend);
    fmt::print("{}", to_text(errors));
    return 0;
}

int inspect_scales(const Args& args) {
    const auto step = args.flag<std::int64_t>("step");
    if (step < 0) fail_usage("--step: expected a step of the run, got {}", step);
    const ScalesQuery query{.tensor = args.flag<std::string>("tensor"),
                            .step = step > 0 ? std::optional(step) : std::nullopt};
    fmt::print("{}", scales_table(load_scales(args.operands().front()), query));
    return 0;
}

int inspect_alignment(const Args& args) {
    const std::filesystem::path model = find_model(args.operands()[0]).path;
    const std::vector<ChannelWeights> layers = inspect_swiglu(model);
    fmt::print("{}", to_text(layers));
    if (const auto& out = args.flag<std::string>("out"); !out.empty()) {
        write_channels(out, layers, kept_channels(model));
    }
    return 0;
}

const std::vector<Shorthand> kShorthands = {{"model", "model.preset"}, {"recipe", "recipe.name"}};

}  // namespace

Verb inspect_verb() {
    Verb graph{.name = "graph",
               .help = "A step's graph after all passes: dtypes, shapes, scales, their providers.",
               .run = inspect_graph,
               .config = true,
               .flags = {kGraphFlag,
                         {.name = "format",
                          .initial = std::string("text"),
                          .help = "dot is Graphviz",
                          .rule = one_of({"text", "dot"})}},
               .shorthands = kShorthands};
    Verb plan{.name = "plan",
              .help = "The kernel of each node, its bytes, and why faster kernels refused.",
              .run = inspect_plan,
              .config = true,
              .flags = {kGraphFlag},
              .shorthands = kShorthands};
    Verb memory{.name = "memory",
                .help = "What a run will allocate, and what is alive at the peak.",
                .run = inspect_memory,
                .config = true,
                .shorthands = kShorthands};
    Verb run{
        .name = "run",
        .help = "Logits, loss and gradients of a Hugging Face model on one batch.",
        .run = inspect_run,
        .flags = {
            {.name = "model",
             .initial = std::string(),
             .help = "folder with config.json and safetensors",
             .required = true},
            {.name = "batch",
             .initial = std::string(),
             .help = "safetensors file with input_ids (B, T)",
             .required = true},
            {.name = "out",
             .initial = std::string(),
             .help = "safetensors file to write",
             .required = true},
            {.name = "grads", .initial = false, .help = "also grad.<parameter> of every parameter"},
            {.name = "recipe",
             .initial = std::string("fp32"),
             .help = "number formats",
             .rule = one_of(recipe_names())},
            {.name = "backend",
             .initial = std::string("auto"),
             .help = "where to compute",
             .rule = one_of({"auto", "cpu", "cuda"})},
            {.name = "no-fuse", .initial = false, .help = "run every fused op as its definition"}}};
    Verb quantise{
        .name = "quantise",
        .help = "What 8 bits do to the tensors of a file: codes, scales, errors.",
        .run = inspect_quantised,
        .flags = {{.name = "in",
                   .initial = std::string(),
                   .help = "safetensors file to read",
                   .required = true},
                  {.name = "out",
                   .initial = std::string(),
                   .help = "safetensors file to write: .codes, .scale, .local and .dequant of each",
                   .required = true},
                  {.name = "tensor", .initial = std::string(), .help = "only this one"},
                  {.name = "as",
                   .initial = std::string("tensor"),
                   .help = "what shares a scale",
                   .rule = one_of(format_names())},
                  {.name = "group",
                   .initial = std::int64_t{0},
                   .help = "moss: elements of a group, 32, 64 or 128; 0: 32"},
                  {.name = "dtype",
                   .initial = std::string("e4m3"),
                   .help = "of the codes",
                   .rule = one_of({"e4m3", "e5m2"})},
                  {.name = "scale",
                   .initial = std::string("auto"),
                   .help = "rounding of scales; auto: pow2 for tensor, else exact",
                   .rule = one_of({"auto", "pow2", "exact"})},
                  {.name = "rule",
                   .initial = std::string("recip"),
                   .help = "blocks: amax / max, or as TransformerEngine has it 1 / (max / amax)",
                   .rule = one_of({"recip", "te"})},
                  {.name = "backend",
                   .initial = std::string("auto"),
                   .help = "where to compute",
                   .rule = one_of({"auto", "cpu", "cuda"})}}};
    Verb scales{
        .name = "scales",
        .help = "How scales, saturated and flushed values moved over a run.",
        .run = inspect_scales,
        .operands = {.name = "RUN", .min = 1, .max = 1},
        .flags = {{.name = "tensor",
                   .initial = std::string(),
                   .help = "only tensors with this in their names, such as mlp.down_proj.x"},
                  {.name = "step",
                   .initial = std::int64_t{0},
                   .help = "the numbers of this step; 0: of the whole run"}}};
    Verb swiglu{.name = "swiglu",
                .help = "How far gate and up weights of SwiGLU channels have aligned.",
                .run = inspect_alignment,
                .operands = {.name = "MODEL", .min = 1, .max = 1},
                .flags = {{.name = "out",
                           .initial = std::string(),
                           .help = "safetensors file to write: .cos, .gate_norm, .up_norm and kept "
                                   ".factor of every channel"}}};
    return {.name = "inspect",
            .help = "Shows what a run will do or did, or what a model computes.",
            .actions = {graph, plan, memory, run, quantise, scales, swiglu, inspect_tokens_verb()}};
}

}  // namespace octavo
