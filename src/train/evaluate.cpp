#include "train/evaluate.h"

#include <algorithm>

#include "io/tokens_info.h"
#include "models/weights.h"
#include "recipes/scales.h"
#include "runtime/program.h"
#include "train/step_graphs.h"

namespace octavo {

namespace {

std::int64_t batches_of(const BatchSource& data, std::int64_t batch, std::int64_t batches) {
    const std::int64_t all = (data.windows() + batch - 1) / batch;
    return batches == 0 ? all : std::min(batches, all);
}

}  // namespace

void check_targets(const BatchSource& data, std::int64_t batch, std::int64_t batches) {
    const std::int64_t windows = std::min(data.windows(), batch * batches_of(data, batch, batches));
    Batch one(1, data.sequence_length(), data.options().documents);
    for (std::int64_t w = 0; w < windows; ++w) {
        data.get(w, one.spans());
        if (one.learned() > 0) return;
    }
    fail(
        "{}: expected a token to be learned in the first {} windows, got none\n"
        "  Look at the loss mask, or judge by other data.",
        data.name(), windows);
}

MeanLoss mean_loss(const BatchSource& data, std::int64_t batch, std::int64_t batches,
                   const std::function<double(const Batch&)>& loss_of,
                   const EvaluationProgress& progress) {
    const std::int64_t seq = data.sequence_length(), windows = data.windows();
    const std::int64_t count = batches_of(data, batch, batches);
    check_targets(data, batch, batches);
    Batch tokens(batch, seq, data.options().documents);
    MeanLoss mean;
    for (std::int64_t i = 0; i < count; ++i) {
        // The last batch is filled up with targets that do not count.
        std::ranges::fill(tokens.targets, -1);
        const std::int64_t live = std::min(batch, windows - i * batch);
        for (std::int64_t w = 0; w < live; ++w) {
            data.get(i * batch + w, tokens.spans().rows(static_cast<std::size_t>(w), 1,
                                                        static_cast<std::size_t>(seq)));
        }
        mean.loss += loss_of(tokens);
        mean.tokens += tokens.learned();
        if (progress) progress(i + 1, count);
    }
    mean.loss /= static_cast<double>(mean.tokens);
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
    for (const auto& path : request.data) shards.emplace_back(path, arch.vocab_size);
    std::int64_t end_of_text = request.end_of_text;
    if (end_of_text < 0 && !request.data.empty()) {
        end_of_text = tokens_info(request.data.front()).end_of_text_id;
    }
    const BatchSource data(std::move(shards), {.sequence_length = seq,
                                               .vocabulary = arch.vocab_size,
                                               .order = Order::sequential,
                                               .windows = request.windows,
                                               .documents = request.documents,
                                               .end_of_text = end_of_text});
    check_targets(data, request.batch, request.batches);

    StepOptions options{.architecture = arch,
                        .recipe = request.recipe,
                        .batch = request.batch,
                        .seq = seq,
                        .documents = request.documents,
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
        [&](const Batch& tokens) {
            program.write_input("eval", "ids", tokens.ids.data());
            program.write_input("eval", "targets", tokens.targets.data());
            program.write_input("eval", "weight", &weight);
            if (request.documents) {
                program.write_input("eval", "starts", tokens.starts.data());
                program.write_input("eval", "positions", tokens.positions.data());
            }
            program.run("eval");
            float loss = 0;
            program.read_output("eval", "loss", &loss);
            return double{loss};
        },
        progress);
}

}  // namespace octavo
