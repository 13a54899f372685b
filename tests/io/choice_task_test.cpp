#include "io/choice_task.h"

#include <gtest/gtest.h>

#include "scratch.h"

namespace octavo {
namespace {

TEST(ChoiceTask, ReadsTheNamesOfPublicSets) {
    const ChoiceQuestion want{.context = "c", .choices = {"x", "y"}, .answer = 1};
    for (const char* line :
         {R"({"context": "c", "choices": ["x", "y"], "answer": 1})",
          R"({"query": "c", "choices": ["x", "y"], "gold": 1, "id": 3})",
          R"({"ctx": "c", "endings": ["x", "y"], "label": "1", "ctx_a": "z"})",
          R"({"question": "c", "choices": {"text": ["x", "y"], "label": ["A", "B"]},
              "answerKey": "B"})",
          R"({"question": "c", "choices": {"text": ["x", "y"], "label": ["1", "2"]},
              "answerKey": "2"})",
          R"({"question": "c", "choices": {"text": ["x", "y"], "label": ["1", "2"]},
              "answerKey": 2})",
          R"({"question": "c", "choices": {"text": ["x", "y"], "label": ["2", "1"]},
              "answerKey": 1})"}) {
        EXPECT_EQ(parse_choice_question(line), want) << line;
    }
}

TEST(ChoiceTask, BadLinesAreNamed) {
    const Scratch dir;
    const auto refused = [&](const std::string& line) {
        const auto path =
            dir.write("task.jsonl",
                      "{\"context\": \"\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n\n" + line);
        return error_of([&] { read_choice_task(path); });
    };
    const std::string text = refused("[]");
    EXPECT_TRUE(contains(text, "task.jsonl: line 3: expected a JSON object, got a list"));
    EXPECT_TRUE(contains(refused(R"({"choices": ["a", "b"], "answer": 0})"),
                         "'context', 'query', 'question', 'ctx'"));
    EXPECT_TRUE(contains(refused(R"({"ctx": "", "query": "", "choices": ["a", "b"], "answer": 0})"),
                         "got 'query' and 'ctx'"));
    EXPECT_TRUE(contains(refused(R"({"ctx": 1, "choices": ["a", "b"], "answer": 0})"),
                         "a context that is a string"));
    EXPECT_TRUE(contains(refused(R"({"ctx": "", "choices": ["a"], "answer": 0})"), "at least 2"));
    EXPECT_TRUE(contains(refused(R"({"ctx": "", "choices": ["a", 2], "answer": 0})"),
                         "choices that are strings, number 2 is not"));
    EXPECT_TRUE(
        contains(refused(R"({"ctx": "", "choices": ["a", "b"], "answer": 2})"), "2 choices"));
    EXPECT_TRUE(contains(refused(R"({"ctx": "", "choices": ["a", "b"], "answer": -1})"), "got -1"));
    EXPECT_TRUE(
        contains(refused(R"({"ctx": "", "choices": ["a", "b"], "answer": "A"})"), "something"));
    for (const char* answer : {"0", "3", "\"0\"", "1.0", "true", "null", "[1]"}) {
        const std::string digits =
            R"({"ctx": "", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answer": )";
        EXPECT_TRUE(contains(refused(digits + answer + "}"), "one of the labels 1, 2")) << answer;
    }
    EXPECT_TRUE(contains(
        refused(
            R"({"ctx": "", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answer": 0})"),
        "one of the labels A, B, got 0"));
    EXPECT_TRUE(contains(refused(R"({"ctx": "", "choices": {"text": ["a", "b"], "label": ["A"]},
                                     "answer": "A"})"),
                         "line 3: "));
    EXPECT_TRUE(contains(error_of([&] { read_choice_task(dir.write("empty.jsonl", "\n")); }),
                         "empty.jsonl: expected questions"));
}

}  // namespace
}  // namespace octavo
