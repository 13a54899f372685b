// Values of config keys and command-line flags: their types, the rules they obey, their text forms.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace octavo {

using ConfigValue = std::variant<std::int64_t, double, bool, std::string, std::vector<std::string>,
                                 std::vector<double>>;

// In the order of ConfigValue's alternatives, so that ValueType(value.index()) is the type of a
// value.
enum class ValueType { integer, number, boolean, text, list, numbers };

// Which values are allowed. Numbers, those of lists too, are finite and between min and max; texts
// with `choices` are one of them.
struct Rule {
    double min = -std::numeric_limits<double>::infinity();
    double max = std::numeric_limits<double>::infinity();
    bool above_min = false;  // min itself is not allowed
    bool below_max = false;  // max itself is not allowed
    std::vector<std::string> choices = {};
};

Rule at_least(double min);
Rule above(double min);
Rule between(double min, double max);        // [min, max]
Rule between_below(double min, double max);  // [min, max)
Rule one_of(std::vector<std::string> choices);

// "an integer >= 1", "a number in [0, 1)", "one of cosine, linear".
std::string describe(ValueType type, const Rule& rule);

// ">= 1", "in [0, 1)", "cosine | linear"; empty when everything is allowed.
std::string describe_range(const Rule& rule);

// Throws a usage Error "expected an integer >= 1, got 0".
void check_value(const ConfigValue& value, const Rule& rule);

// Reads the text of a command-line argument and checks it. Booleans are true, false, on or off;
// lists are separated by commas. Throws a usage Error "expected .., got ..".
ConfigValue parse_value(std::string_view text, ValueType type, const Rule& rule);

// As a TOML value: numbers in the shortest form that reads back equal, texts in quotes.
std::string to_toml(const ConfigValue& value);

}  // namespace octavo
