#include "train/export_folded.h"

#include <algorithm>
#include <map>

#include "base/convert.h"
#include "io/batches.h"
#include "io/safetensors.h"
#include "models/weights.h"
#include "runtime/program.h"
#include "train/step_graphs.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

using Factors = std::map<std::string, std::vector<float>>;  // by layer

// The graph of a batch's loss with the factors of all layers as outputs, named after them.
Graph measuring_graph(const StepOptions& options) {
    const Graph g = eval_graph(options);
    Graph with_factors = g;
    for (const Node& n : g.nodes()) {
        if (std::holds_alternative<SmoothSwiGlu>(n.op)) with_factors.add_output(n.label, n.out[1]);
    }
    return with_factors;
}

Factors measure(const ExportRequest& request, const Architecture& arch, Backend& backend) {
    check(arch.experts.count == 0,
          "{}: expected a model whose layers have one SwiGLU each, got {} experts\n"
          "  Channels of experts are not folded. Use octavo convert.",
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
    shards.emplace_back(request.tokens);
    const BatchSource data(std::move(shards),
                           {.sequence_length = request.seq, .vocabulary = arch.vocab_size});
    std::vector<std::int32_t> ids(static_cast<std::size_t>(request.batch * request.seq));
    std::vector<std::int32_t> targets(ids.size());
    const float weight = 1;
    Factors factors;
    for (std::int64_t i = 0; i < request.batches; ++i) {
        data.batch(i, ids, targets);
        program.write_input("measure", "ids", ids.data());
        program.write_input("measure", "targets", targets.data());
        program.write_input("measure", "weight", &weight);
        program.run("measure");
        for (const Output& o : graph.outputs()) {
            if (o.name == "loss") continue;
            std::vector<float> s(static_cast<std::size_t>(graph.type(o.value).shape.elements()));
            program.read_output("measure", o.name, s.data());
            std::vector<float>& most = factors[o.name];
            most.resize(s.size());
            std::ranges::transform(s, most, most.begin(),
                                   [](float a, float b) { return std::max(a, b); });
        }
    }
    return factors;
}

// A weight on its way from one file to another.
struct Weight {
    TensorInfo info;
    std::vector<float> values;
    std::vector<std::byte> bytes;

    explicit Weight(const TensorInfo& t)
        : info(t), values(static_cast<std::size_t>(t.shape.elements())), bytes(t.bytes.size()) {
        convert(t.bytes, t.dtype, std::as_writable_bytes(std::span(values)), Dtype::f32);
    }
    void encode() {
        convert(std::as_bytes(std::span<const float>(values)), Dtype::f32, bytes, info.dtype);
        std::vector<float> back(values.size());
        convert(bytes, info.dtype, std::as_writable_bytes(std::span(back)), Dtype::f32);
        check(back == values,
              "'{}': a channel's factor would cut bits off weights in {}\n"
              "  Export from a checkpoint in f32.",
              info.name, name(info.dtype));
        info.bytes = bytes;
    }
};

bool belongs_to_training(const fs::path& file) {
    const std::string name = file.filename().string();
    return name.ends_with(".safetensors") || name == "model.safetensors.index.json" ||
           name == "checkpoint.json" || name == "config.toml";
}

}  // namespace

void fold_channels(std::span<float> up, std::span<float> down, std::span<const float> s) {
    const std::size_t channels = s.size(),
                      features = up.size() / std::max<std::size_t>(channels, 1);
    for (std::size_t i = 0; i < up.size(); ++i) up[i] /= s[i / features];
    for (std::size_t i = 0; i < down.size(); ++i) down[i] *= s[i % channels];
}

std::vector<FoldedLayer> export_folded(const ExportRequest& request, Backend& backend) {
    check(!fs::exists(request.out), "{}: expected a folder to be made, it is there already",
          request.out.string());
    const Factors factors = measure(request, read_hf_config(request.model), backend);

    const SafetensorsModel file(request.model);
    std::vector<FoldedLayer> layers;
    std::vector<Weight> folded;
    folded.reserve(2 * factors.size());
    std::map<std::string, TensorInfo> tensors;
    for (const std::string& name : file.names()) tensors.emplace(name, file.at(name));
    for (const auto& [layer, s] : factors) {
        Weight up(file.at(layer + ".up_proj.weight")), down(file.at(layer + ".down_proj.weight"));
        fold_channels(up.values, down.values, s);
        const auto [least, most] = std::ranges::minmax(s);
        layers.push_back({layer, least, most});
        for (Weight* w : {&up, &down}) {
            folded.push_back(std::move(*w));
            folded.back().encode();
            tensors.at(folded.back().info.name) = folded.back().info;
        }
    }
    std::vector<TensorInfo> all;
    for (const auto& [name, t] : tensors) all.push_back(t);
    fs::create_directories(request.out);
    for (const fs::directory_entry& e : fs::directory_iterator(request.model)) {
        if (e.is_regular_file() && !belongs_to_training(e.path())) {
            fs::copy_file(e.path(), request.out / e.path().filename());
        }
    }
    write_safetensors(request.out / "model.safetensors", all);
    return layers;
}

}  // namespace octavo
