// TOML text as a flat list of dotted keys with positions.
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/value.h"

namespace octavo {

// Lines and columns count from 1, columns in code points.
struct TomlPosition {
    unsigned line, column;
    auto operator<=>(const TomlPosition&) const = default;
};

struct TomlEntry {
    std::string key;  // "train.lr"
    // Nothing for what cannot be a key's value: a table, a date, a list of anything but strings or
    // numbers.
    std::optional<ConfigValue> value;
    std::string got;  // the value in words, for error messages
    bool empty_table;
    TomlPosition key_position, value_position;
};

// Every value in `text`, in the order of the file. Empty tables count as values, so that a misspelt
// section is noticed. Throws a usage Error with `source`:line:column for what is no
// TOML, including keys given twice.
std::vector<TomlEntry> parse_toml(std::string_view text, const std::string& source);

// Of toml++, for `octavo doctor`.
std::string toml_library_version();

}  // namespace octavo
