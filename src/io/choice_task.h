// Multiple-choice questions from JSON lines, under the names that public sets use:
//
//     context   "context", "query", "question" or "ctx" (HellaSwag)
//     choices   "choices" or "endings": a list of strings, or ARC's {"text": [...], "label": [...]}
//     answer    "answer", "gold", "label" or "answerKey": the index of the right choice, as a
//               number or in digits; where there are labels, one of them
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace octavo {

struct ChoiceQuestion {
    std::string context;
    std::vector<std::string> choices = {};  // two at least
    std::size_t answer = 0;                 // index of the right one
    bool operator==(const ChoiceQuestion&) const = default;
};

// Throws Error with the reason (the caller knows file and line).
ChoiceQuestion parse_choice_question(std::string_view line);

// Of a file, plain or zstd-compressed; blank lines are skipped. Throws Error naming file and line,
// and for a file without questions.
std::vector<ChoiceQuestion> read_choice_task(const std::filesystem::path& file);

}  // namespace octavo
