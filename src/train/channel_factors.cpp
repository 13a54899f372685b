#include "train/channel_factors.h"

#include <algorithm>
#include <string_view>

#include "base/scale_rule.h"
#include "io/batches.h"
#include "io/safetensors.h"
#include "models/weights.h"
#include "runtime/program.h"
#include "train/step_graphs.h"

namespace octavo {
namespace {

// The graph of a batch's loss with the factors of all layers as outputs, named after them.
Graph measuring_graph(const StepOptions& options) {
    const Graph g = eval_graph(options);
    Graph with_factors = g;
    for (const Node& n : g.nodes()) {
        if (std::holds_alternative<SmoothSwiGlu>(n.op)) with_factors.add_output(n.label, n.out[1]);
    }
    return with_factors;
}

// Each to the other one where that is larger.
void raise(std::vector<float>& most, const std::vector<float>& s) {
    most.resize(s.size());
    std::ranges::transform(s, most, most.begin(), [](float a, float b) { return std::max(a, b); });
}

}  // namespace

ChannelFactors measure_channels(const ChannelRequest& request, Backend& backend) {
    const Architecture arch = read_hf_config(request.model);
    check(arch.experts.count == 0,
          "{}: expected a model whose layers have one SwiGLU each, got {} experts\n"
          "  Channels of experts are not folded. Convert without --fold-channels.",
          request.model.string(), arch.experts.count);
    check(request.seq <= arch.max_positions,
          "sequences of {} tokens are longer than the model's {} positions", request.seq,
          arch.max_positions);
    StepOptions options{.architecture = arch,
                        .recipe = recipe_named("fp32"),
                        .batch = request.batch,
                        .seq = request.seq,
                        .target = backend.target()};
    options.recipe.smooth = Smooth{.axis = Axis::column};
    const Graph graph = measuring_graph(options);
    check(graph.outputs().size() > 1, "{}: expected a model with SwiGLU, got none",
          request.model.string());
    Program program(backend);
    program.add("measure", graph);
    program.allocate(backend.available_bytes());
    load_weights(request.model, program.state());

    std::vector<TokenFile> shards;
    shards.emplace_back(request.tokens, arch.vocab_size);
    const BatchSource data(std::move(shards),
                           {.sequence_length = request.seq, .vocabulary = arch.vocab_size});
    Batch tokens(request.batch, request.seq, /*documents=*/false);
    const float weight = 1;
    ChannelFactors factors;
    for (std::int64_t i = 0; i < request.batches; ++i) {
        for (std::int64_t row = 0; row < request.batch; ++row) {
            data.get(i * request.batch + row,
                     tokens.spans().rows(static_cast<std::size_t>(row), 1,
                                         static_cast<std::size_t>(request.seq)));
        }
        program.write_input("measure", "ids", tokens.ids.data());
        program.write_input("measure", "targets", tokens.targets.data());
        program.write_input("measure", "weight", &weight);
        program.run("measure");
        for (const Output& o : graph.outputs()) {
            if (o.name == "loss") continue;
            std::vector<float> s(static_cast<std::size_t>(graph.type(o.value).shape.elements()));
            program.read_output("measure", o.name, s.data());
            raise(factors[o.name], s);
        }
    }
    return factors;
}

bool is_kept_channels(std::string_view state_name) {
    return state_name.starts_with(smooth_window_name("")) ||
           state_name.starts_with(smooth_before_name(""));
}

ChannelFactors kept_channels(const std::filesystem::path& checkpoint) {
    ChannelFactors factors;
    std::error_code no_folder;  // a file of llm.c: it has none either
    for (const auto& entry : std::filesystem::directory_iterator(checkpoint, no_folder)) {
        const std::string file_name = entry.path().filename();
        if (!file_name.starts_with("state-") || !file_name.ends_with(".safetensors")) continue;
        const SafetensorsFile file(entry.path());
        for (const TensorEntry& e : file.entries()) {
            if (!is_kept_channels(e.name)) continue;
            const TensorInfo t = file.at(e.name);
            check(t.dtype == Dtype::f32, "'{}': expected f32, got {}", t.name, name(t.dtype));
            std::vector<float> s(static_cast<std::size_t>(t.shape.elements()));
            std::ranges::copy(t.bytes, std::as_writable_bytes(std::span(s)).begin());
            raise(factors[std::string(parameter_of(t.name))], s);
        }
    }
    for (auto& [layer, s] : factors) {
        for (float& x : s) x = smooth_factor(x, ScaleRounding::pow2);
    }
    return factors;
}

std::size_t limit_spread(ChannelFactors& factors) {
    std::size_t raised = 0;
    for (auto& [layer, s] : factors) {
        const float least = std::ranges::max(s) / kFoldSpread;
        for (float& x : s) {
            if (x >= least) continue;
            x = least;
            ++raised;
        }
    }
    return raised;
}

void fold_channels(const ChannelFactors& factors, const std::string& weight,
                   std::span<float> values) {
    constexpr std::string_view kUp = ".up_proj.weight", kDown = ".down_proj.weight";
    const bool up = weight.ends_with(kUp);
    if (!up && !weight.ends_with(kDown)) return;
    const auto found =
        factors.find(weight.substr(0, weight.size() - (up ? kUp.size() : kDown.size())));
    if (found == factors.end()) return;
    const std::vector<float>& s = found->second;
    const std::size_t channels = s.size(), features = values.size() / channels;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const float factor = up ? 1.0f / s[i / features] : s[i % channels];
        const float folded = values[i] * factor;
        check(folded / factor == values[i],
              "'{}': a channel's factor of {} would cut bits off {}, which is too small a number",
              weight, factor, values[i]);
        values[i] = folded;
    }
}

}  // namespace octavo
