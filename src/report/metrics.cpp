#include "report/metrics.h"

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace octavo {
namespace {

using Json = nlohmann::ordered_json;

struct Field {
    const char* key;
    double StepMetrics::* member;
};

constexpr std::array kFields = {
    Field{"time", &StepMetrics::time_s},         Field{"loss", &StepMetrics::loss},
    Field{"grad_norm", &StepMetrics::grad_norm}, Field{"lr", &StepMetrics::lr},
    Field{"tok_s", &StepMetrics::tokens_per_s},  Field{"sol", &StepMetrics::share_of_peak},
    Field{"mem_gb", &StepMetrics::memory_gb},
};
constexpr const char* kHeldOut = "held_out_loss";
constexpr const char* kNonFinite = "nonfinite";

bool reserved(const std::string& key) {
    for (const Field& field : kFields) {
        if (key == field.key) return true;
    }
    return key == "step" || key == "tokens" || key == kHeldOut || key == kNonFinite;
}

void put(Json& line, Json& nonfinite, const std::string& key, double value) {
    line[key] = std::isfinite(value) ? Json(value) : Json(nullptr);
    if (!std::isfinite(value)) {
        nonfinite[key] = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    }
}

double number(const Json& line, const std::string& key) {
    const Json& value = line.at(key);
    if (value.is_number()) return value.get<double>();
    check(value.is_null(), "expected a number for \"{}\", got {}", key, value.type_name());
    const auto kinds = line.find(kNonFinite);
    const bool known = kinds != line.end() && kinds->is_object() && kinds->contains(key);
    const Json kind = known ? kinds->at(key) : Json();
    if (kind == "inf") return std::numeric_limits<double>::infinity();
    if (kind == "-inf") return -std::numeric_limits<double>::infinity();
    return std::numeric_limits<double>::quiet_NaN();
}

std::int64_t count(const Json& line, const char* key) {
    const auto found = line.find(key);
    check(found != line.end(), "expected the key \"{}\", got none", key);
    const bool fits = found->is_number_integer() && *found >= 0 &&
                      *found <= std::numeric_limits<std::int64_t>::max();
    check(fits, "expected a count for \"{}\", got {}", key,
          found->dump(-1, ' ', false, Json::error_handler_t::replace));
    return found->get<std::int64_t>();
}

StepMetrics parse_line(std::string_view text) {
    const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    check(line.is_object(), "expected one JSON object, got {}",
          line.is_discarded() ? "text that is not JSON" : line.type_name());
    StepMetrics metrics;
    metrics.step = count(line, "step");
    metrics.tokens = count(line, "tokens");
    for (const Field& field : kFields) {
        check(line.contains(field.key), "expected the key \"{}\", got none", field.key);
        metrics.*field.member = number(line, field.key);
    }
    if (line.contains(kHeldOut)) metrics.held_out_loss = number(line, kHeldOut);
    for (const auto& [key, value] : line.items()) {
        // Newer versions may write more than numbers; what this one cannot use it passes over.
        if (reserved(key) || !(value.is_number() || value.is_null())) continue;
        metrics.extra.emplace_back(key, number(line, key));
    }
    return metrics;
}

}  // namespace

std::string metrics_line(const StepMetrics& metrics) {
    Json line, nonfinite;
    line["step"] = metrics.step;
    line["time"] = nullptr;  // keys keep the place where they first appear
    line["tokens"] = metrics.tokens;
    for (const Field& field : kFields) put(line, nonfinite, field.key, metrics.*field.member);
    if (metrics.held_out_loss) put(line, nonfinite, kHeldOut, *metrics.held_out_loss);
    for (const auto& [key, value] : metrics.extra) {
        check(!reserved(key), "metrics.jsonl: the key \"{}\" is taken\n  Choose another name.",
              key);
        put(line, nonfinite, key, value);
    }
    if (!nonfinite.is_null()) line[kNonFinite] = nonfinite;
    return line.dump(-1, ' ', false, Json::error_handler_t::replace);
}

MetricsFile parse_metrics(std::string_view text, const std::string& where) {
    MetricsFile file;
    for (std::int64_t number = 1; !text.empty(); ++number) {
        const std::size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        const bool torn = end == std::string_view::npos;
        text.remove_prefix(torn ? text.size() : end + 1);
        try {
            StepMetrics metrics = parse_line(line);
            check(file.steps.empty() || metrics.step > file.steps.back().step,
                  "expected a step after {}, got {}",
                  file.steps.empty() ? 0 : file.steps.back().step, metrics.step);
            file.steps.push_back(std::move(metrics));
        } catch (const Error& error) {
            if (!torn) {
                throw Error(fmt::format("{}: line {}: {}", where, number, error.message()),
                            "The file was changed by hand or damaged: remove that line.");
            }
            file.note = fmt::format("{}: skipped line {}, torn by a crash", where, number);
        }
    }
    return file;
}

MetricsFile read_metrics(const std::filesystem::path& path) {
    return parse_metrics(read_file(path), path.string());
}

MetricsLog MetricsLog::open(const std::filesystem::path& path, std::int64_t resume_step) {
    if (!std::filesystem::exists(path)) return {AppendFile(path), kNewRun, ""};
    const std::string text = read_file(path);
    // A new run has no use for what was there, so not even damage in it may stop the run.
    MetricsFile old;
    if (resume_step >= 0) old = parse_metrics(text, path.string());
    std::size_t keep = 0;
    std::int64_t last_step = kNewRun;
    for (const StepMetrics& metrics : old.steps) {
        const std::size_t end = text.find('\n', keep);
        if (metrics.step > resume_step || end == std::string::npos) break;
        keep = end + 1;
        last_step = metrics.step;
    }
    if (keep < text.size()) write_file_atomically(path, std::string_view(text).substr(0, keep));
    return {AppendFile(path), last_step, old.note};
}

void MetricsLog::append(const StepMetrics& metrics) {
    check(metrics.step > last_step_, "{}: expected a step after {}, got {}", file_.path().string(),
          last_step_, metrics.step);
    file_.append(metrics_line(metrics) + '\n');
    last_step_ = metrics.step;
}

}  // namespace octavo
