#include "train/multiple_choice.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"
#include "models/weights.h"
#include "recipes/scales.h"
#include "runtime/program.h"
#include "text/each.h"
#include "train/step_graphs.h"

namespace octavo {
namespace {

constexpr std::int64_t kShortest = 32;

// Inputs that scoring a choice takes.
std::int64_t length(const ChoiceTokens& c) { return std::ssize(c.ids) - 1; }

ChoiceTokens tokens_of(const ChoiceQuestion& q, std::size_t choice, const Tokenizer& tokenizer,
                       Encoder& encoder, std::int64_t longest) {
    const auto begin = tokenizer.begin();
    std::string context = q.context, text = " " + q.choices[choice];
    const std::size_t end = context.find_last_not_of(" \t\n\r\f\v") + 1;
    text.insert(0, context, end);
    context.resize(end);
    const auto encode = [&](const std::string& part) {
        std::vector<std::int32_t> ids(begin.begin(), begin.end());
        encoder.encode(part, ids);
        return ids;
    };
    std::vector<std::int32_t> alone = encode(context), whole = encode(context + text);
    // Something has to stand before the first token that is predicted.
    if (alone.empty()) {
        const auto end_of_text = tokenizer.end_of_text();
        check(end_of_text.has_value(),
              "expected a context, got none, and the tokenizer has no token "
              "that ends texts to stand in its place");
        alone.push_back(*end_of_text);
        whole.insert(whole.begin(), *end_of_text);
    }
    ChoiceTokens c{.ids = std::move(whole)};
    c.scored = std::ssize(c.ids) - std::ssize(alone);
    check(c.scored > 0, "choice {} has no tokens of its own", choice + 1);
    check(c.scored <= longest, "choice {} has {} tokens, the model reads {} at a time", choice + 1,
          c.scored, longest);
    if (length(c) > longest) {
        c.ids.erase(c.ids.begin(), c.ids.end() - (longest + 1));
        c.shortened = true;
    }
    return c;
}

// Sequences of one length at a time: powers of two, so that few graphs serve all.
class Scorer {
  public:
    Scorer(const ChoiceRequest& request, Backend& backend, const Architecture& arch,
           std::span<const ChoiceTokens> choices, std::int64_t longest)
        : program_(backend), longest_(longest) {
        StepOptions options{.architecture = arch,
                            .recipe = request.recipe,
                            .batch = request.batch,
                            .target = backend.target()};
        options.recipe.cache_weights = true;
        Graph any;
        for (const ChoiceTokens& c : choices) {
            options.seq = padded(c);
            if (!program_.has(plan_name(options.seq))) {
                any = row_losses_graph(options);
                program_.add(plan_name(options.seq), any);
            }
        }
        program_.add("refresh", refresh_graph(options.recipe, any));
        program_.allocate(backend.available_bytes());
        load_weights(request.model, program_.state());
        initialise_scales(program_.state());
        program_.run("refresh");
    }

    std::int64_t padded(const ChoiceTokens& c) const {
        const auto n = static_cast<std::uint64_t>(std::max(length(c), kShortest));
        return std::min(longest_, static_cast<std::int64_t>(std::bit_ceil(n)));
    }

    // Log-probabilities of choices of one padded length, up to a batch of them; the rows behind
    // them stand idle.
    void score(std::span<const ChoiceTokens* const> rows, std::int64_t batch,
               std::span<double> sums) {
        const std::int64_t seq = padded(*rows[0]);
        const std::string plan = plan_name(seq);
        std::vector<std::int32_t> ids(static_cast<std::size_t>(batch * seq));
        std::vector<std::int32_t> targets(ids.size(), -1);
        for (std::size_t r = 0; r < rows.size(); ++r) {
            const auto at = ids.begin() + static_cast<std::int64_t>(r) * seq;
            std::copy(rows[r]->ids.begin(), rows[r]->ids.end() - 1, at);
        }
        program_.write_input(plan, "ids", ids.data());
        const float weight = 1;
        program_.write_input(plan, "weight", &weight);
        for (std::int64_t r = 0; r < batch; ++r) {
            std::ranges::fill(targets, -1);
            if (r < std::ssize(rows)) {
                const ChoiceTokens& c = *rows[static_cast<std::size_t>(r)];
                const std::int64_t first = r * seq + length(c) - c.scored;
                std::copy(c.ids.end() - c.scored, c.ids.end(), targets.begin() + first);
            }
            program_.write_input(plan, fmt::format("targets.{}", r), targets.data());
        }
        program_.run(plan);
        for (std::size_t r = 0; r < rows.size(); ++r) {
            float loss = 0;
            program_.read_output(plan, fmt::format("loss.{}", r), &loss);
            sums[r] = -double{loss};
        }
    }

  private:
    static std::string plan_name(std::int64_t seq) { return fmt::format("choices_{}", seq); }

    Program program_;
    std::int64_t longest_;
};

}  // namespace

std::vector<ChoiceTokens> tokenize_choices(std::span<const ChoiceQuestion> questions,
                                           const Tokenizer& tokenizer, std::int64_t longest) {
    const auto encoders = tokenizer.encoders();
    std::vector<std::vector<ChoiceTokens>> found(questions.size());
    for_each_item(questions.size(), [&](std::size_t thread, std::size_t q) {
        for (std::size_t c = 0; c < questions[q].choices.size(); ++c) {
            try {
                found[q].push_back(
                    tokens_of(questions[q], c, tokenizer, *encoders[thread], longest));
            } catch (const Error& error) {
                throw error.in(fmt::format("question {}", q + 1));
            }
            found[q].back().question = q;
            found[q].back().choice = c;
        }
    });
    std::vector<ChoiceTokens> choices;
    for (auto& of_question : found) {
        std::ranges::move(of_question, std::back_inserter(choices));
    }
    return choices;
}

ChoiceScores score_choices(std::span<const ChoiceQuestion> questions,
                           std::span<const ChoiceTokens> choices, std::span<const double> sums) {
    ChoiceScores scores{.questions = std::ssize(questions)};
    const auto share_right = [&](const auto& value) {
        std::vector<double> best(questions.size(), 0);
        std::vector<std::size_t> picked(questions.size(), 0);
        for (std::size_t i = 0; i < choices.size(); ++i) {
            const auto [q, c] = std::pair(choices[i].question, choices[i].choice);
            const double v = value(i);
            // The first of equals, as argmax has it.
            check(std::isfinite(v), "question {}: the likelihood of choice {} is {}", q + 1, c + 1,
                  v);
            if (c == 0 || v > best[q]) {
                best[q] = v;
                picked[q] = c;
            }
        }
        std::int64_t right = 0;
        for (std::size_t q = 0; q < questions.size(); ++q)
            right += picked[q] == questions[q].answer;
        return static_cast<double>(right) / static_cast<double>(questions.size());
    };
    scores.accuracy = share_right([&](std::size_t i) { return sums[i]; });
    scores.per_byte = share_right([&](std::size_t i) {
        const std::string& text = questions[choices[i].question].choices[choices[i].choice];
        return sums[i] / static_cast<double>(std::max<std::size_t>(text.size(), 1));
    });
    scores.per_token = share_right(
        [&](std::size_t i) { return sums[i] / static_cast<double>(choices[i].scored); });
    scores.shortened = std::ranges::count_if(choices, &ChoiceTokens::shortened);
    return scores;
}

ChoiceScores evaluate_choices(const ChoiceRequest& request, const Tokenizer& tokenizer,
                              Backend& backend, const ChoiceProgress& progress) {
    const Architecture arch = read_hf_config(request.model);
    const std::int64_t longest = request.seq > 0 ? request.seq : arch.max_positions;
    check(longest <= arch.max_positions,
          "sequences of {} tokens are longer than the model's {} positions", longest,
          arch.max_positions);
    check(tokenizer.vocabulary() <= arch.vocab_size,
          "{}: the tokenizer has {} tokens, the model {}", request.model.string(),
          tokenizer.vocabulary(), arch.vocab_size);
    const auto choices = tokenize_choices(request.questions, tokenizer, longest);
    Scorer scorer(request, backend, arch, choices, longest);

    // Those of one padded length side by side; the order of sums of a row does not depend on it.
    std::vector<std::size_t> order(choices.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return scorer.padded(choices[i]); });
    std::vector<double> sums(choices.size());
    for (std::size_t done = 0; done < order.size();) {
        std::vector<const ChoiceTokens*> rows;
        const std::int64_t seq = scorer.padded(choices[order[done]]);
        for (std::size_t i = done; i < order.size() && std::ssize(rows) < request.batch &&
                                   scorer.padded(choices[order[i]]) == seq;
             ++i) {
            rows.push_back(&choices[order[i]]);
        }
        std::vector<double> part(rows.size());
        scorer.score(rows, request.batch, part);
        for (const double sum : part) sums[order[done++]] = sum;
        if (progress) progress(static_cast<std::int64_t>(done), std::ssize(order));
    }
    return score_choices(request.questions, choices, sums);
}

}  // namespace octavo
