#include "train/multiple_choice.h"

#include <gtest/gtest.h>

#include "text/byte_tokenizer.h"
#include "train/golden.h"
#include "train/tiny.h"

namespace octavo::test {
namespace {

using Questions = std::vector<ChoiceQuestion>;

TEST(MultipleChoice, ChoicesStandBehindTheContext) {
    const ByteTokenizer bytes;
    const Questions questions{{"ab \n", {"x", "yz"}, 1}, {"", {"q", "rs"}, 0}};
    const auto choices = tokenize_choices(questions, bytes, 100);
    ASSERT_EQ(choices.size(), 4u);
    const auto text = [&](const ChoiceTokens& c) { return bytes.decode(c.ids); };
    EXPECT_EQ(text(choices[0]), "ab \n x");
    EXPECT_EQ(choices[0].scored, 4);
    EXPECT_EQ(text(choices[1]), "ab \n yz");
    EXPECT_EQ(choices[1].scored, 5);
    // The end of text stands before a choice without a context.
    EXPECT_EQ(choices[2].ids, (std::vector<std::int32_t>{*bytes.end_of_text(), ' ', 'q'}));
    EXPECT_EQ(choices[2].scored, 2);
    EXPECT_EQ(choices[3].question, 1u);
    EXPECT_EQ(choices[3].choice, 1u);
}

TEST(MultipleChoice, LongContextsLoseTheirBeginning) {
    const ByteTokenizer bytes;
    const Questions questions{{"0123456789", {"x", "yz"}, 0}};
    const auto choices = tokenize_choices(questions, bytes, 8);
    EXPECT_EQ(bytes.decode(choices[0].ids), "3456789 x");
    EXPECT_EQ(bytes.decode(choices[1].ids), "456789 yz");
    EXPECT_EQ(choices[1].scored, 3);
    EXPECT_EQ(score_choices(questions, choices, std::vector<double>{-1, -2}).shortened, 2);
    try {
        tokenize_choices(questions, bytes, 2);
        FAIL() << "expected an error";
    } catch (const Error& e) {
        EXPECT_EQ(e.message(), "question 1: choice 2 has 3 tokens, the model reads 2 at a time");
    }
}

TEST(MultipleChoice, ScoresAreByTheSumBytesAndTokens) {
    const ByteTokenizer bytes;
    // Sums, by bytes (2, 4), by tokens (3, 5).
    const Questions questions{
        {"a", {"xx", "yyyy"}, 0}, {"a", {"xx", "yyyy"}, 1}, {"a", {"xx", "yyyy"}, 0}};
    const auto choices = tokenize_choices(questions, bytes, 100);
    const std::vector<double> sums{
        -4, -6,    // 0; -2, -1.5: 1; -1.33, -1.2: 1
        -5, -5,    // equal: 0; 1; 1
        -1, -1.8,  // 0; -0.5, -0.45: 1; -0.33, -0.36: 0
    };
    const ChoiceScores s = score_choices(questions, choices, sums);
    EXPECT_EQ(s.questions, 3);
    EXPECT_DOUBLE_EQ(s.accuracy, 2.0 / 3);
    EXPECT_DOUBLE_EQ(s.per_byte, 1.0 / 3);
    EXPECT_DOUBLE_EQ(s.per_token, 2.0 / 3);
}

// Batched and padded, a sum is what the logits of the sequence alone say.
TEST(MultipleChoice, SumsAreThoseOfOneSequenceAtATime) {
    StepOptions o = tiny_options(Family::llama, "fp32");
    const std::vector<std::vector<std::int32_t>> rows{
        {3, 9, 4, 1, 60, 7}, {5, 5, 8}, {2, 63, 1, 9}};
    const auto sum_alone = [&](const std::vector<std::int32_t>& ids, std::size_t scored) {
        StepOptions alone = o;
        alone.batch = 1;
        alone.seq = std::ssize(ids) - 1;
        Session s(alone);
        std::vector<std::int32_t> targets(ids.begin() + 1, ids.end());
        std::fill(targets.begin(), targets.end() - static_cast<std::int64_t>(scored), -1);
        return s.program.evaluate({ids.data(), ids.size() - 1}, targets, 1);
    };
    o.batch = 3;
    o.seq = 16;
    auto backend = make_test_backend();
    Program program(*backend);
    program.add("rows", row_losses_graph(o));
    program.allocate(kNoLimit);
    for (const Parameter& p : parameters(o.architecture)) {
        write_values(program.state(), p.name, initial_values(p, 1));
    }
    std::vector<std::int32_t> ids(48);
    for (std::size_t r = 0; r < 3; ++r) {
        std::ranges::copy(rows[r], ids.begin() + static_cast<std::int64_t>(16 * r));
    }
    const float weight = 1;
    program.write_input("rows", "ids", ids.data());
    program.write_input("rows", "weight", &weight);
    for (std::size_t r = 0; r < 3; ++r) {
        std::vector<std::int32_t> targets(48, -1);
        const std::size_t n = rows[r].size();
        for (std::size_t i = n - 2; i < n; ++i) targets[16 * r + i - 1] = rows[r][i];
        program.write_input("rows", fmt::format("targets.{}", r), targets.data());
    }
    program.run("rows");
    for (std::size_t r = 0; r < 3; ++r) {
        float loss = 0;
        program.read_output("rows", fmt::format("loss.{}", r), &loss);
        const float want = sum_alone(rows[r], 2);
        EXPECT_NEAR(loss, want, (on_cuda() ? 1e-3 : 1e-5) * want);
    }
}

}  // namespace
}  // namespace octavo::test
