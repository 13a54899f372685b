// octavo convert: models from one form on disk into another.
#include <fmt/format.h>

#include <algorithm>

#include "cli/device.h"
#include "cli/model_folder.h"
#include "cli/verbs.h"
#include "models/convert_model.h"
#include "train/channel_factors.h"

namespace octavo {
namespace {

constexpr std::string_view kKept = "checkpoint";

ChannelFactors measured_factors(const Args& args, const std::filesystem::path& model) {
    const auto backend = open_backend({.backend = args.flag<std::string>("backend")});
    return measure_channels({.model = model,
                             .tokens = args.flag<std::string>("fold-channels"),
                             .batches = args.flag<std::int64_t>("batches"),
                             .batch = args.flag<std::int64_t>("batch"),
                             .seq = args.flag<std::int64_t>("seq")},
                            *backend);
}

ChannelFactors channel_factors(const Args& args, const ConvertRequest& request) {
    const bool kept = args.flag<std::string>("fold-channels") == kKept;
    ChannelFactors factors =
        kept ? kept_channels(request.model) : measured_factors(args, request.model);
    check(!factors.empty(),
          "{}: expected the largest factors of channels, got none\n  Train with "
          "smooth.export_window, or name a token file to measure them on.",
          request.model.string());
    fmt::print("factors of channels: up_proj is divided by them, down_proj multiplied\n");
    for (const auto& [layer, s] : factors) {
        const auto [least, most] = std::ranges::minmax(s);
        fmt::print("  {}  {:g} to {:g}\n", layer, least, most);
    }
    const std::size_t raised = is_fp8_form(request.form) ? limit_spread(factors) : 0;
    if (raised > 0) {
        fmt::print(
            "{} of them raised to a 1/{:g} of their layer's largest, for the rows of "
            "up_proj to keep their precision in FP8\n",
            raised, kFoldSpread);
    }
    return factors;
}

int run_convert(const Args& args) {
    const std::filesystem::path model = args.operands()[0];
    const bool file = std::filesystem::is_regular_file(model);
    const ModelFolder folder = file ? ModelFolder{.path = model} : find_model(model);
    ConvertRequest request{.model = folder.path,
                           .out = args.flag<std::string>("out"),
                           .form = weight_form_named(args.flag<std::string>("as"))};
    if (folder.recipe) request.in_bf16 = folder.recipe->in_compute;
    check_makeable(request);
    if (!args.flag<std::string>("fold-channels").empty()) {
        request.edit = [factors = channel_factors(args, request)](const std::string& weight,
                                                                  std::span<float> values) {
            fold_channels(factors, weight, values);
        };
    }
    const ConvertedModel converted = convert_model(request);
    fmt::print("{}: {} weights, {} of them in FP8, {:.3f} GB\n", request.out.string(),
               converted.tensors, converted.quantised, static_cast<double>(converted.bytes) / 1e9);
    if (!converted.left_out.empty()) {
        fmt::print("in bf16, {}: {}\n",
                   request.in_bf16.empty() ? "since their sizes are no multiples of 128"
                   : request.form == WeightForm::fp8
                       ? "by recipe.bf16 or their sizes, and what is joined to such"
                       : "by recipe.bf16, and what is joined to such",
                   fmt::join(converted.left_out, ", "));
    }
    return 0;
}

}  // namespace

Verb convert_verb() {
    return {
        .name = "convert",
        .help = "A model as a Hugging Face folder, in the form that other programs read.",
        .run = run_convert,
        .operands = {.name = "MODEL", .min = 1, .max = 1},
        .flags = {
            {.name = "out", .initial = std::string(), .help = "folder to make", .required = true},
            {.name = "as",
             .initial = std::string("bf16"),
             .help = "form of the weights: fp8 has a scale per 128 x 128 block, fp8-tensor one per "
                     "weight (for vLLM and SGLang, not for transformers)",
             .rule = one_of({"f32", "bf16", "fp8", "fp8-tensor"})},
            {.name = "fold-channels",
             .initial = std::string(),
             .help = "give all SwiGLU channels about the same range, measured on this token file; "
                     "\"checkpoint\": the range that smooth.export_window kept"},
            {.name = "batches",
             .initial = std::int64_t{16},
             .help = "for --fold-channels: batches to measure",
             .rule = between(1, 1 << 20)},
            {.name = "batch",
             .initial = std::int64_t{8},
             .help = "for --fold-channels: sequences of a batch",
             .rule = between(1, 1 << 16)},
            {.name = "seq",
             .initial = std::int64_t{256},
             .help = "for --fold-channels: length of a sequence, in tokens",
             .rule = between(1, 1 << 24)},
            {.name = "backend",
             .initial = std::string("auto"),
             .help = "for --fold-channels: where to compute",
             .rule = one_of({"auto", "cpu", "cuda"})}}};
}

}  // namespace octavo
