#include "report/metrics.h"

#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "report/json_line.h"

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

StepMetrics parse_line(std::string_view text) {
    const Json line = parse_object(text);
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
    return parse_steps(text, where, parse_line);
}

MetricsFile read_metrics(const std::filesystem::path& path) {
    return parse_metrics(read_file(path), path.string());
}

MetricsLog MetricsLog::open(const std::filesystem::path& path, std::int64_t resume_step) {
    return MetricsLog(StepLog::open(path, resume_step,
                                    [](std::string_view line) { return parse_line(line).step; }));
}

void MetricsLog::append(const StepMetrics& metrics) {
    log_.append(metrics.step, metrics_line(metrics));
}

}  // namespace octavo
