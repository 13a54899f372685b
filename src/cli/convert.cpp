// octavo convert: models from one form on disk into another.
#include <fmt/format.h>

#include "cli/model_folder.h"
#include "cli/verbs.h"
#include "models/convert_model.h"

namespace octavo {
namespace {

int run_convert(const Args& args) {
    const std::filesystem::path model = args.operands()[0];
    const bool file = std::filesystem::is_regular_file(model);
    const ConvertRequest request{.model = file ? model : find_model(model).path,
                                 .out = args.flag<std::string>("out"),
                                 .form = weight_form_named(args.flag<std::string>("as"))};
    const ConvertedModel converted = convert_model(request);
    fmt::print("{}: {} weights, {} of them in FP8, {:.3f} GB\n", request.out.string(),
               converted.tensors, converted.quantised, static_cast<double>(converted.bytes) / 1e9);
    if (!converted.left_out.empty()) {
        fmt::print("in bf16, since their sizes are no multiples of 128: {}\n",
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
             .rule = one_of({"f32", "bf16", "fp8", "fp8-tensor"})}}};
}

}  // namespace octavo
