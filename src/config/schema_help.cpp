#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/nearest.h"
#include "config/schema.h"

namespace octavo {
namespace {

std::string_view section_of(std::string_view key) { return key.substr(0, key.find('.')); }
std::string_view leaf_of(std::string_view key) { return key.substr(key.rfind('.') + 1); }

// "default 100 steps; >= 1".
std::string facts(const Key& key, const RunConfig& defaults) {
    const ConfigValue value = key.get(defaults);
    const auto* text = std::get_if<std::string>(&value);
    const bool list = key.type == ValueType::list || key.type == ValueType::numbers;
    std::string out;
    if (text) {
        out = *text;
    } else if (!list) {
        out = to_toml(value);
    }
    if (!out.empty()) {
        out = "default " + out;
    }
    if (!key.unit.empty()) {
        out += " " + key.unit;
    }
    const std::string range = list                             ? "comma-separated"
                              : key.type == ValueType::boolean ? "true | false"
                                                               : describe_range(key.rule);
    if (!range.empty()) {
        out += (out.empty() ? "" : "; ") + range;
    }
    return out;
}

// A long list of choices continues under its beginning.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t width) {
    std::string out;
    std::size_t column = indent;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find(' ', begin), text.size());
        if (column + (end - begin) > width && column > indent) {
            out += '\n' + std::string(indent, ' ');
            column = indent;
        } else if (column > indent) {
            out += ' ';
        }
        out += text.substr(begin, end - begin);
        column += end - begin + 1;
        begin = end + 1;
    }
    return out;
}

}  // namespace

std::string suggest_key(std::string_view name) {
    if (is_section(name)) {
        return fmt::format("'{0}' is a section: write [{0}], and its keys below it", name);
    }
    std::vector<std::string> names, sections, same_leaf;
    for (const Key& key : schema()) {
        names.push_back(key.name);
        if (sections.empty() || sections.back() != section_of(key.name)) {
            sections.emplace_back(section_of(key.name));
        }
        if (leaf_of(key.name) == leaf_of(name)) {
            same_leaf.push_back(key.name);
        }
    }
    if (const std::string near = nearest(name, names); !near.empty()) {
        return fmt::format("did you mean '{}'?", near);
    }
    // The right name in the wrong section, or in none.
    if (!same_leaf.empty()) {
        return fmt::format("did you mean '{}'?", same_leaf.front());
    }
    if (const std::string near = nearest(section_of(name), sections); !near.empty()) {
        std::string leaves;
        for (const Key& key : schema()) {
            if (section_of(key.name) == near) {
                leaves += (leaves.empty() ? "" : ", ") + std::string(leaf_of(key.name));
            }
        }
        return fmt::format("the keys of '{}' are {}", near, leaves);
    }
    return fmt::format("the sections are {}; octavo train --help lists all keys",
                       fmt::join(sections, ", "));
}

std::string schema_help() {
    const RunConfig defaults;
    std::string out, section;
    for (const Key& key : schema()) {
        if (section_of(key.name) != section) {
            section = section_of(key.name);
            fmt::format_to(std::back_inserter(out), "\n[{}]\n", section);
        }
        const std::string more = facts(key, defaults);
        fmt::format_to(std::back_inserter(out), "  --{:<26} {}\n", key.name, key.help);
        if (!more.empty()) {
            constexpr std::size_t kIndent = 31, kWidth = 108;
            fmt::format_to(std::back_inserter(out), "{}{}\n", std::string(kIndent, ' '),
                           wrapped("(" + more + ")", kIndent, kWidth));
        }
    }
    return out;
}

}  // namespace octavo
