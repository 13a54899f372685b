// How well a model predicts a token file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "io/batches.h"
#include "recipes/recipe.h"
#include "runtime/backend.h"

namespace octavo {

struct MeanLoss {
    double loss = 0;          // nats per token
    std::int64_t tokens = 0;  // that were predicted
};

// Called after each batch with its number, from 1, and how many there are.
using EvaluationProgress = std::function<void(std::int64_t done, std::int64_t all)>;

// Throws Error if none of the windows that mean_loss sees has a target: their loss would be 0.
void check_targets(const BatchSource& data, std::int64_t batch, std::int64_t batches);

// Over the windows of `data` in their order, `batch` at a time, at most `batches` of them (0: all).
// `loss_of` gives the sum of the cross entropy over all targets of a batch; those of -1 count for
// nothing.
MeanLoss mean_loss(const BatchSource& data, std::int64_t batch, std::int64_t batches,
                   const std::function<double(const Batch&)>& loss_of,
                   const EvaluationProgress& progress = {});

struct EvaluationRequest {
    std::filesystem::path model;  // a checkpoint or Hugging Face folder
    std::vector<std::filesystem::path> data = {};
    Recipe recipe;  // of the products; delayed scales are taken from each tensor itself
    std::int64_t batch = 8, seq = 0, batches = 0;  // seq 0: the model's positions, 1024 at most
    Windows windows = Windows::stream;
    bool documents = false;         // none sees another
    std::int64_t end_of_text = -1;  // ends documents in files without an index; -1: as tokens.json
};

// Files count as one stream, cut into windows of `seq` tokens from its beginning, where a rest
// shorter than a window is left out, or into windows of whole documents.
MeanLoss evaluate_model(const EvaluationRequest&, Backend&, const EvaluationProgress& = {});

}  // namespace octavo
