// Files with one JSON object a line and a step in each, which only grow: metrics.jsonl and
// scales.jsonl.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "report/append_file.h"

namespace octavo {

// What `parse` makes of every line; results have a `step`.
template <class Step>
struct ParsedSteps {
    std::vector<Step> steps;
    std::string note;  // what was passed over; empty if nothing
};

// A last line without a line break that `parse` refuses was torn by a crash and is passed over.
// Any other refusal, or a step that does not rise, is an Error with its line number.
template <class Parse>
auto parse_steps(std::string_view text, const std::string& where, Parse&& parse) {
    ParsedSteps<std::invoke_result_t<Parse, std::string_view>> parsed;
    auto& steps = parsed.steps;
    for (std::int64_t number = 1; !text.empty(); ++number) {
        const std::size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        const bool torn = end == std::string_view::npos;
        text.remove_prefix(torn ? text.size() : end + 1);
        try {
            auto step = parse(line);
            const std::int64_t last = steps.empty() ? -1 : steps.back().step;
            check(step.step > last, "expected a step after {}, got {}", last, step.step);
            steps.push_back(std::move(step));
        } catch (const Error& error) {
            if (!torn) {
                throw Error(fmt::format("{}: line {}: {}", where, number, error.message()),
                            "The file was changed by hand or damaged: remove that line.");
            }
            parsed.note = fmt::format("{}: skipped line {}, torn by a crash", where, number);
        }
    }
    return parsed;
}

// Appends lines. Opening for a run that resumes after `resume_step` first drops the later lines
// (and a torn one), so that the file tells one story; a new run passes kNewRun, which drops all.
class StepLog {
  public:
    static constexpr std::int64_t kNewRun = -1;

    static StepLog open(const std::filesystem::path& path, std::int64_t resume_step,
                        const std::function<std::int64_t(std::string_view line)>& step_of);

    void append(std::int64_t step, std::string_view line);  // steps must rise
    const std::string& note() const { return note_; }

  private:
    StepLog(AppendFile file, std::int64_t last_step, std::string note)
        : file_(std::move(file)), last_step_(last_step), note_(std::move(note)) {}

    AppendFile file_;
    std::int64_t last_step_;
    std::string note_;
};

}  // namespace octavo
