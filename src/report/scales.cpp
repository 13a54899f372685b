#include "report/scales.h"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/file.h"
#include "report/json_line.h"

namespace octavo {
namespace {

using Json = nlohmann::ordered_json;
using Numbers = std::array<float, kCastStats>;

// The shortest text that reads back as the same f32.
std::string number(float x) { return std::isfinite(x) ? fmt::format("{}", x) : "null"; }

CastStats stats_of(const Json& list, const std::string& tensor) {
    check(list.is_array() && list.size() >= kCastStats, "expected {} numbers for \"{}\", got {}",
          kCastStats, tensor, list.is_array() ? std::to_string(list.size()) : list.type_name());
    Numbers numbers;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        check(list[i].is_number() || list[i].is_null(), "expected numbers for \"{}\", got {}",
              tensor, list[i].type_name());
        numbers[i] =
            list[i].is_null() ? std::numeric_limits<float>::quiet_NaN() : list[i].get<float>();
    }
    return std::bit_cast<CastStats>(numbers);
}

CastStep parse_line(std::string_view text) {
    const Json line = parse_object(text);
    CastStep step{.step = count(line, "step"), .tensors = {}};
    const auto tensors = line.find("tensors");
    check(tensors != line.end() && tensors->is_object(),
          "expected an object for \"tensors\", got {}",
          tensors == line.end() ? "none" : tensors->type_name());
    for (const auto& [tensor, list] : tensors->items()) {
        step.tensors.push_back({tensor, stats_of(list, tensor)});
    }
    return step;
}

}  // namespace

std::vector<std::pair<std::string, double>> worst_of(const CastStep& step) {
    if (step.tensors.empty()) return {};
    const auto largest = [&](float CastStats::* number) {
        double top = 0;
        for (const TensorCast& t : step.tensors) {
            const double x = t.stats.*number;
            if (is_worse(x, top)) top = x;
        }
        return top;
    };
    return {{"quant.saturated_max", largest(&CastStats::saturated)},
            {"quant.flushed_max", largest(&CastStats::flushed)},
            {"quant.error_max", largest(&CastStats::error)}};
}

std::string scales_line(const CastStep& step) {
    std::string line = fmt::format("{{\"step\":{},\"tensors\":{{", step.step);
    std::string_view comma;
    for (const TensorCast& t : step.tensors) {
        line += comma;
        line += Json(t.tensor).dump(-1, ' ', false, Json::error_handler_t::replace);
        char next = ':';
        line += ":[";
        for (const float x : std::bit_cast<Numbers>(t.stats)) {
            if (next == ',') line += ',';
            line += number(x);
            next = ',';
        }
        line += ']';
        comma = ",";
    }
    return line + "}}";
}

ScalesFile parse_scales(std::string_view text, const std::string& where) {
    return parse_steps(text, where, parse_line);
}

ScalesFile read_scales(const std::filesystem::path& path) {
    return parse_scales(read_file(path), path.string());
}

ScalesLog ScalesLog::open(const std::filesystem::path& path, std::int64_t resume_step) {
    return ScalesLog(StepLog::open(path, resume_step,
                                   [](std::string_view line) { return parse_line(line).step; }));
}

namespace {

// The first part of a name that is a number, and how much of the name it ends.
struct LayerPart {
    int layer = -1;
    std::size_t end = 0;
};

LayerPart layer_part(std::string_view name) {
    for (std::size_t at = 0; at < name.size();) {
        const std::size_t end = std::min(name.find('.', at), name.size());
        int layer = 0;
        const auto [rest, error] = std::from_chars(name.data() + at, name.data() + end, layer);
        if (error == std::errc() && rest == name.data() + end) return {layer, end};
        at = end + 1;
    }
    return {};
}

}  // namespace

TensorName split_tensor_name(std::string_view tensor) {
    TensorName name;
    const std::size_t dot = tensor.rfind('.');
    name.role = dot == std::string_view::npos ? "" : tensor.substr(dot + 1);
    const std::string_view place = tensor.substr(0, dot);
    const LayerPart part = layer_part(place);
    name.layer = part.layer;
    name.kind = part.layer < 0 ? place : place.substr(std::min(part.end + 1, place.size()));
    return name;
}

int layer_number(std::string_view name) { return layer_part(name).layer; }

}  // namespace octavo
