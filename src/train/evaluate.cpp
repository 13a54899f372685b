#include "train/evaluate.h"

#include <algorithm>

#include "models/weights.h"
#include "recipes/scales.h"
#include "runtime/program.h"
#include "train/step_graphs.h"

namespace octavo {

MeanLoss mean_loss(const BatchSource& data, std::int64_t batch, std::int64_t batches,
                   const std::function<double(std::span<const std::int32_t>,
                                              std::span<const std::int32_t>)>& loss_of,
                   const EvaluationProgress& progress) {
    const std::int64_t seq = data.sequence_length(), windows = data.windows();
    const std::int64_t all = (windows + batch - 1) / batch;
    const std::int64_t count = batches == 0 ? all : std::min(batches, all);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(batch * seq)), targets(ids.size());
    MeanLoss mean;
    for (std::int64_t i = 0; i < count; ++i) {
        // The last batch is filled up with targets that do not count.
        std::ranges::fill(targets, -1);
        const std::int64_t live = std::min(batch, windows - i * batch);
        const auto n = static_cast<std::size_t>(seq);
        for (std::int64_t w = 0; w < live; ++w) {
            const auto at = static_cast<std::size_t>(w) * n;
            data.get(i * batch + w, std::span(ids).subspan(at, n),
                     std::span(targets).subspan(at, n));
        }
        mean.loss += loss_of(ids, targets);
        mean.tokens += live * seq;
        if (progress) progress(i + 1, count);
    }
    if (mean.tokens > 0) mean.loss /= static_cast<double>(mean.tokens);
    return mean;
}

MeanLoss evaluate_model(const EvaluationRequest& request, Backend& backend,
                        const EvaluationProgress& progress) {
    const Architecture arch = read_hf_config(request.model);
    const std::int64_t seq =
        request.seq > 0 ? request.seq : std::min<std::int64_t>(arch.max_positions, 1024);
    check(seq <= arch.max_positions,
          "sequences of {} tokens are longer than the model's {} positions", seq,
          arch.max_positions);
    std::vector<TokenFile> shards;
    for (const auto& path : request.data) shards.emplace_back(path);
    const BatchSource data(
        std::move(shards),
        {.sequence_length = seq, .vocabulary = arch.vocab_size, .order = Order::sequential});

    StepOptions options{.architecture = arch,
                        .recipe = request.recipe,
                        .batch = request.batch,
                        .seq = seq,
                        .target = backend.target()};
    options.recipe.cache_weights = true;
    const Graph graph = eval_graph(options);
    Program program(backend);
    program.add("eval", graph);
    program.add("refresh", refresh_graph(options.recipe, graph));
    program.allocate(backend.available_bytes());
    load_weights(request.model, program.state());
    initialise_scales(program.state());
    program.run("refresh");

    const float weight = 1;
    return mean_loss(
        data, request.batch, request.batches,
        [&](std::span<const std::int32_t> ids, std::span<const std::int32_t> targets) {
            program.write_input("eval", "ids", ids.data());
            program.write_input("eval", "targets", targets.data());
            program.write_input("eval", "weight", &weight);
            program.run("eval");
            float loss = 0;
            program.read_output("eval", "loss", &loss);
            return double{loss};
        },
        progress);
}

}  // namespace octavo
