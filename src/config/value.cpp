#include "config/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"

namespace octavo {
namespace {

const char* type_name(ValueType type) {
    switch (type) {
        case ValueType::integer:
            return "an integer";
        case ValueType::number:
            return "a number";
        case ValueType::boolean:
            return "true or false";
        case ValueType::text:
            return "a string";
        case ValueType::list:
            return "a list of strings";
        case ValueType::numbers:
            return "a list of numbers";
    }
    return "";
}

bool in_range(double x, const Rule& rule) {
    return std::isfinite(x) && x >= rule.min && x <= rule.max &&
           !(rule.above_min && x == rule.min) && !(rule.below_max && x == rule.max);
}

template <class T>
std::optional<T> parse_number(std::string_view text) {
    T value{};
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc() || rest != text.data() + text.size()) {
        return std::nullopt;
    }
    return value;
}

std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const auto comma = std::min(text.find(','), text.size());
        parts.emplace_back(text.substr(0, comma));
        text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return parts;
}

std::optional<ConfigValue> parse_numbers(std::string_view text) {
    std::vector<double> numbers;
    for (const std::string& part : split(text)) {
        const auto number = parse_number<double>(part);
        if (!number) return std::nullopt;
        numbers.push_back(*number);
    }
    return numbers;
}

// Length of the well-formed UTF-8 sequence at the start of `text`, 0 if there is none.
std::size_t utf8_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xC2 ? 0
                               : lead < 0xE0 ? 2
                               : lead < 0xF0 ? 3
                               : lead < 0xF5 ? 4
                                             : 0;
    if (length == 0 || length > text.size()) {
        return 0;
    }
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) {
            return 0;
        }
    }
    // Overlong forms, surrogates, and code points above U+10FFFF.
    const bool malformed =
        length >= 3 && ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) >= 0xA0) ||
                        (lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) >= 0x90));
    return malformed ? 0 : length;
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0) {
            return false;
        }
        text.remove_prefix(length);
    }
    return true;
}

std::string quote(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
            out += fmt::format("\\u{:04X}", static_cast<int>(c));
        } else {
            out += c;
        }
    }
    return out + '"';
}

}  // namespace

Rule at_least(double min) { return {.min = min}; }
Rule above(double min) { return {.min = min, .above_min = true}; }
Rule between(double min, double max) { return {.min = min, .max = max}; }
Rule between_below(double min, double max) { return {.min = min, .max = max, .below_max = true}; }
Rule one_of(std::vector<std::string> choices) { return {.choices = std::move(choices)}; }

std::string describe_range(const Rule& rule) {
    if (!rule.choices.empty()) {
        return fmt::format("{}", fmt::join(rule.choices, " | "));
    }
    if (std::isfinite(rule.max)) {
        return fmt::format("in {}{}, {}{}", rule.above_min ? '(' : '[', rule.min, rule.max,
                           rule.below_max ? ')' : ']');
    }
    return std::isfinite(rule.min) ? fmt::format("{} {}", rule.above_min ? ">" : ">=", rule.min)
                                   : "";
}

std::string describe(ValueType type, const Rule& rule) {
    if (!rule.choices.empty()) {
        return fmt::format("one of {}", fmt::join(rule.choices, ", "));
    }
    const std::string range = describe_range(rule);
    return range.empty() ? type_name(type) : fmt::format("{} {}", type_name(type), range);
}

void check_value(const ConfigValue& value, const Rule& rule) {
    bool ok = true;
    if (const auto* integer = std::get_if<std::int64_t>(&value)) {
        ok = in_range(static_cast<double>(*integer), rule);
    } else if (const auto* number = std::get_if<double>(&value)) {
        ok = in_range(*number, rule);
    } else if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
        ok = std::ranges::all_of(*numbers, [&](double x) { return in_range(x, rule); });
    } else if (const auto* text = std::get_if<std::string>(&value); text && !rule.choices.empty()) {
        ok = std::ranges::find(rule.choices, *text) != rule.choices.end();
    }
    if (!ok) {
        fail_usage("expected {}, got {}", describe(ValueType(value.index()), rule), to_toml(value));
    }
}

ConfigValue parse_value(std::string_view text, ValueType type, const Rule& rule) {
    std::optional<ConfigValue> value;
    switch (type) {
        case ValueType::integer:
            value = parse_number<std::int64_t>(text);
            break;
        case ValueType::number:
            value = parse_number<double>(text);
            break;
        case ValueType::boolean:
            if (text == "true" || text == "on") {
                value = true;
            } else if (text == "false" || text == "off") {
                value = false;
            }
            break;
        case ValueType::text:
            value = std::string(text);
            break;
        case ValueType::list:
            value = split(text);
            break;
        case ValueType::numbers:
            value = parse_numbers(text);
            break;
    }
    if (!value) {
        fail_usage("expected {}, got '{}'", describe(type, rule), text);
    }
    // Texts end up in TOML files, which are UTF-8 throughout.
    if (!is_utf8(text)) {
        fail_usage("expected UTF-8 text, got {} bytes that are not", text.size());
    }
    check_value(*value, rule);
    return *value;
}

std::string to_toml(const ConfigValue& value) {
    struct Writer {
        std::string operator()(std::int64_t x) const { return fmt::format("{}", x); }
        std::string operator()(double x) const { return fmt::format("{}", x); }
        std::string operator()(bool x) const { return x ? "true" : "false"; }
        std::string operator()(const std::string& x) const { return quote(x); }
        std::string operator()(const std::vector<std::string>& x) const {
            std::vector<std::string> quoted;
            std::ranges::transform(x, std::back_inserter(quoted), quote);
            return fmt::format("[{}]", fmt::join(quoted, ", "));
        }
        std::string operator()(const std::vector<double>& x) const {
            return fmt::format("[{}]", fmt::join(x, ", "));
        }
    };
    return std::visit(Writer{}, value);
}

}  // namespace octavo
