// How often a model finds the right one of several answers the likeliest, as lm-evaluation-harness
// measures it.
//
// A choice stands behind the context and a space. Its tokens are those of context and choice
// together past those of the context alone, spaces at the context's end counting to the choice; its
// likelihood is the sum of their log-probabilities.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/choice_task.h"
#include "recipes/recipe.h"
#include "runtime/backend.h"
#include "text/tokenizer.h"

namespace octavo {

struct ChoiceScores {
    std::int64_t questions = 0;
    double accuracy = 0;         // of the largest sum (acc)
    double per_byte = 0;         // of the largest sum by bytes of the choice (acc_norm)
    double per_token = 0;        // of the largest sum by tokens
    std::int64_t shortened = 0;  // sequences whose context lost its beginning, to fit the model
};

// A choice of a question as the model reads it: the last `scored` of `ids` are the choice's.
struct ChoiceTokens {
    std::size_t question = 0, choice = 0;
    std::vector<std::int32_t> ids;
    std::int64_t scored = 0;
    bool shortened = false;
};

// Of at most `longest` + 1 tokens, `longest` being what the model reads at a time; contexts lose
// their beginning. Throws Error for a choice without tokens, or longer than that alone.
std::vector<ChoiceTokens> tokenize_choices(std::span<const ChoiceQuestion>, const Tokenizer&,
                                           std::int64_t longest);

// The scores by the sums of log-probabilities, one for each of `choices`.
ChoiceScores score_choices(std::span<const ChoiceQuestion>, std::span<const ChoiceTokens> choices,
                           std::span<const double> sums);

struct ChoiceRequest {
    std::filesystem::path model;  // a checkpoint or Hugging Face folder
    std::vector<ChoiceQuestion> questions = {};
    Recipe recipe;  // of the products; delayed scales are taken from each tensor itself
    std::int64_t batch = 8, seq = 0;  // sequences at a time; longest; seq 0: the model's positions
};

// Called after each batch with the sequences done, and how many there are.
using ChoiceProgress = std::function<void(std::int64_t done, std::int64_t all)>;

ChoiceScores evaluate_choices(const ChoiceRequest&, const Tokenizer&, Backend&,
                              const ChoiceProgress& = {});

}  // namespace octavo
