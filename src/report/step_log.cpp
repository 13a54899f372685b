#include "report/step_log.h"

#include "base/file.h"

namespace octavo {

StepLog StepLog::open(const std::filesystem::path& path, std::int64_t resume_step,
                      const std::function<std::int64_t(std::string_view line)>& step_of) {
    if (!std::filesystem::exists(path)) return {AppendFile(path), kNewRun, ""};
    const std::string text = read_file(path);
    struct Line {
        std::int64_t step;
    };
    ParsedSteps<Line> old;
    // A new run has no use for what was there, so not even damage in it may stop the run.
    if (resume_step >= 0) {
        old = parse_steps(text, path.string(),
                          [&](std::string_view line) { return Line{step_of(line)}; });
    }
    std::size_t keep = 0;
    std::int64_t last_step = kNewRun;
    for (const auto& [step] : old.steps) {
        const std::size_t end = text.find('\n', keep);
        if (step > resume_step || end == std::string::npos) break;
        keep = end + 1;
        last_step = step;
    }
    if (keep < text.size()) write_file_atomically(path, std::string_view(text).substr(0, keep));
    return {AppendFile(path), last_step, old.note};
}

void StepLog::append(std::int64_t step, std::string_view line) {
    check(step > last_step_, "{}: expected a step after {}, got {}", file_.path().string(),
          last_step_, step);
    file_.append(std::string(line) + '\n');
    last_step_ = step;
}

}  // namespace octavo
