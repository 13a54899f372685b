#include "train/inspect_run.h"

#include <cstring>

#include "base/convert.h"
#include "io/safetensors.h"
#include "models/weights.h"
#include "runtime/program.h"
#include "train/step_graphs.h"

namespace octavo {
namespace {

struct Ids {
    std::int64_t batch = 0, seq = 0;
    std::vector<std::int32_t> values, targets;
};

Ids read_ids(const std::filesystem::path& path, std::int64_t vocabulary) {
    const SafetensorsFile file(path);
    const TensorInfo t = file.at("input_ids");
    check(t.shape.rank() == 2 && (t.dtype == Dtype::i64 || t.dtype == Dtype::i32),
          "{}: input_ids must be an i64 or i32 tensor (batch, time), got {} {}", path.string(),
          name(t.dtype), to_string(t.shape));
    check(t.shape[0] > 0 && t.shape[1] > 1,
          "{}: input_ids needs at least one row of two tokens, got {}", path.string(),
          to_string(t.shape));
    Ids ids{.batch = t.shape[0], .seq = t.shape[1], .values = {}, .targets = {}};
    const auto n = static_cast<std::size_t>(t.shape.elements());
    for (std::size_t i = 0; i < n; ++i) {
        std::int64_t id = 0;
        if (t.dtype == Dtype::i64) {
            std::memcpy(&id, t.bytes.data() + i * 8, 8);
        } else {
            std::int32_t narrow = 0;
            std::memcpy(&narrow, t.bytes.data() + i * 4, 4);
            id = narrow;
        }
        check(id >= 0 && id < vocabulary,
              "{}: input_ids[{}, {}] = {} is outside the vocabulary of {}", path.string(),
              i / static_cast<std::size_t>(ids.seq), i % static_cast<std::size_t>(ids.seq), id,
              vocabulary);
        ids.values.push_back(static_cast<std::int32_t>(id));
    }
    // Each token's target is the next; the last of a row has none.
    ids.targets.assign(n, -1);
    for (std::size_t i = 0; i + 1 < n; ++i) {
        if ((i + 1) % static_cast<std::size_t>(ids.seq) != 0) ids.targets[i] = ids.values[i + 1];
    }
    return ids;
}

}  // namespace

void run_inspection(const InspectionRequest& request, Backend& backend) {
    const Architecture arch = read_hf_config(request.model);
    const Ids ids = read_ids(request.batch, arch.vocab_size);
    check(ids.seq <= arch.max_positions, "{}: {} tokens are more than the model's {} positions",
          request.batch.string(), ids.seq, arch.max_positions);
    const StepOptions options{.architecture = arch,
                              .recipe = request.recipe,
                              .batch = ids.batch,
                              .seq = ids.seq,
                              .fuse = request.fuse,
                              .target = backend.target()};
    const Graph graph = inspection_graph(options, request.gradients);
    Program program(backend);
    program.add("run", graph);
    program.add("refresh", refresh_graph(options.recipe, graph));
    // Weights that only enter through working copies have no other reader.
    for (const Parameter& p : parameters(arch)) {
        program.state().declare(p.name, {Dtype::f32, p.shape});
    }
    program.allocate(backend.available_bytes());
    load_weights(request.model, program.state());
    initialise_scales(program.state());
    program.run("refresh");

    const float weight = 1.0f / static_cast<float>(ids.batch * (ids.seq - 1));
    program.write_input("run", "ids", ids.values.data());
    program.write_input("run", "targets", ids.targets.data());
    program.write_input("run", "weight", &weight);
    program.run("run");

    const auto outputs = program.plan("run").graph().outputs();
    std::vector<std::vector<std::byte>> values(outputs.size());
    std::vector<TensorInfo> tensors;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const Type& type = program.plan("run").graph().type(outputs[i].value);
        std::vector<std::byte> raw(static_cast<std::size_t>(data_bytes(type)));
        program.read_output("run", outputs[i].name, raw.data());
        values[i].resize(static_cast<std::size_t>(type.shape.elements()) * sizeof(float));
        convert(raw, type.dtype, values[i], Dtype::f32);
        const Shape shape = outputs[i].name == "loss" ? Shape{} : type.shape;
        tensors.push_back({outputs[i].name, Dtype::f32, shape, values[i]});
    }
    write_safetensors(request.out, tensors);
}

}  // namespace octavo
