#include "io/choice_task.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <optional>

#include "base/error.h"
#include "io/text_source.h"
#include "text/json_reader.h"

namespace octavo {
namespace {

using Json = nlohmann::json;

// The one field of these that the line has.
const Json& field(const Json& line, const char* what, std::initializer_list<const char*> names) {
    const Json* found = nullptr;
    std::string first, all;
    for (const char* name : names) {
        all += (all.empty() ? "'" : ", '") + std::string(name) + "'";
        const auto at = line.find(name);
        if (at == line.end()) continue;
        check(!found, "expected one field with {}, got '{}' and '{}'", what, first, name);
        found = &*at;
        first = name;
    }
    if (!found) fail("expected {} in one of the fields {}", what, all);
    return *found;
}

std::vector<std::string> strings(const Json& list, const char* what) {
    check(list.is_array(), "expected {} in a list of strings", what);
    std::vector<std::string> texts;
    for (const Json& item : list) {
        check(item.is_string(), "expected {} that are strings, number {} is not", what,
              texts.size() + 1);
        texts.push_back(item.get<std::string>());
    }
    return texts;
}

std::size_t index_of(const Json& answer, const std::vector<std::string>& labels,
                     std::size_t choices) {
    const std::string text = answer.is_string()           ? answer.get<std::string>()
                             : answer.is_number_integer() ? answer.dump()
                                                          : "something else";
    // ARC has labels of digits, too, which count from 1: a number is one of them, and no index.
    if (!labels.empty()) {
        const auto at = std::ranges::find(labels, text);
        check(at != labels.end(), "expected the answer as one of the labels {}, got {}",
              fmt::join(labels, ", "), text);
        return static_cast<std::size_t>(at - labels.begin());
    }
    std::optional<std::int64_t> index;
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size()) index = value;
    const auto count = static_cast<std::int64_t>(choices);
    check(index && *index >= 0 && *index < count,
          "expected the answer as an index below the {} choices, got {}", choices,
          index ? fmt::format("{}", *index) : "something else");
    return static_cast<std::size_t>(*index);
}

}  // namespace

ChoiceQuestion parse_choice_question(std::string_view line) {
    const Json json = read_json(line);
    check(json.is_object(), "expected a JSON object, got {}", json.type_name());
    const Json& context = field(json, "a context", {"context", "query", "question", "ctx"});
    check(context.is_string(), "expected a context that is a string, got {}", context.type_name());
    ChoiceQuestion q{.context = context.get<std::string>()};
    const Json& choices = field(json, "choices", {"choices", "endings"});
    std::vector<std::string> labels;
    if (choices.is_object()) {
        q.choices = strings(list_in(choices, "text"), "choices");
        labels = strings(list_in(choices, "label"), "labels");
        check(labels.size() == q.choices.size(), "expected a label for each of {} choices, got {}",
              q.choices.size(), labels.size());
    } else {
        q.choices = strings(choices, "choices");
    }
    check(q.choices.size() >= 2, "expected at least 2 choices, got {}", q.choices.size());
    q.answer = index_of(field(json, "an answer", {"answer", "gold", "label", "answerKey"}), labels,
                        q.choices.size());
    return q;
}

std::vector<ChoiceQuestion> read_choice_task(const std::filesystem::path& file) {
    std::vector<ChoiceQuestion> questions;
    TextSource lines(file, {.format = TextFormat::jsonl});
    for (TextSource::Raw raw; lines.next_raw(raw);) {
        try {
            questions.push_back(parse_choice_question(raw.text));
        } catch (const Error& error) {
            throw error.in(fmt::format("{}: line {}", file.string(), raw.line));
        }
    }
    check(!questions.empty(), "{}: expected questions, a JSON object a line, got none",
          file.string());
    return questions;
}

}  // namespace octavo
