// The one table of all config keys. Run files, command-line overrides, --help and the resolved
// config are generated from it: a key is added in run_config.h and schema.cpp, and nowhere else.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/run_config.h"
#include "config/value.h"

namespace octavo {

struct Key {
    std::string name;  // "train.lr"
    std::string help;
    std::string unit;  // may be empty
    ValueType type;
    Rule rule;
    std::function<ConfigValue(const RunConfig&)> get;
    // `value` has this key's type and obeys its rule.
    std::function<void(RunConfig&, const ConfigValue& value)> set;
};

// All keys, those of one section side by side.
const std::vector<Key>& schema();

// The key of that name, or nullptr.
const Key* find_key(std::string_view name);

// Whether keys start with "name.".
bool is_section(std::string_view name);

// "did you mean 'train.lr'?", or where to find all names, for a name that is no key.
std::string suggest_key(std::string_view name);

// One line a key, with its default, unit and range: the lower half of `octavo train --help`.
std::string schema_help();

}  // namespace octavo
