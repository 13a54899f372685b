#include "config/toml_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>

#include "base/error.h"

namespace octavo {
namespace {

constexpr std::size_t kMaxBytes = 1 << 20;
constexpr int kMaxDots = 256;

TomlPosition position(const toml::source_region& region) {
    return {region.begin.line, region.begin.column};
}

// Each dot of a dotted key nests one table deeper, and toml++ frees tables recursively: a line of
// some ten thousand dots would overflow the stack. Quotes may hide a separator, which only makes
// the count smaller than it could be in files that nobody writes.
void check_nesting(std::string_view text, const std::string& source) {
    int line = 1, dots = 0;
    for (const char c : text) {
        dots = c == '.' ? dots + 1 : c == '\n' || c == ',' || c == '=' || c == '#' ? 0 : dots;
        line += c == '\n';
        if (dots > kMaxDots) {
            fail_usage("{}:{}: expected keys of at most {} parts, got more", source, line,
                       kMaxDots);
        }
    }
}

std::optional<Value> list_of_strings(const toml::array& array) {
    std::vector<std::string> items;
    for (const toml::node& item : array) {
        const auto* text = item.as_string();
        if (!text) {
            return std::nullopt;
        }
        items.push_back(text->get());
    }
    return items;
}

std::optional<Value> to_value(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::integer:
            return node.as_integer()->get();
        case toml::node_type::floating_point:
            return node.as_floating_point()->get();
        case toml::node_type::boolean:
            return node.as_boolean()->get();
        case toml::node_type::string:
            return node.as_string()->get();
        case toml::node_type::array:
            return list_of_strings(*node.as_array());
        default:
            return std::nullopt;
    }
}

const char* kind(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::table:
            return "a table";
        case toml::node_type::array:
            return "a list of other things than strings";
        default:
            return "a date or time";
    }
}

void flatten(const toml::table& table, const std::string& prefix, std::vector<TomlEntry>& out) {
    for (const auto& [name, node] : table) {
        const std::string key = prefix + std::string(name.str());
        const auto* inner = node.as_table();
        if (inner && !inner->empty()) {
            flatten(*inner, key + ".", out);
            continue;
        }
        auto value = to_value(node);
        std::string got = value ? to_toml(*value) : kind(node);
        out.push_back({key, std::move(value), std::move(got), inner != nullptr,
                       position(name.source()), position(node.source())});
    }
}

}  // namespace

std::vector<TomlEntry> parse_toml(std::string_view text, const std::string& source) {
    if (text.size() > kMaxBytes) {
        fail_usage("{}: expected a run file of at most {} bytes, got {}", source, kMaxBytes,
                   text.size());
    }
    check_nesting(text, source);
    std::vector<TomlEntry> entries;
    try {
        flatten(toml::parse(text, source), "", entries);
    } catch (const toml::parse_error& error) {
        const TomlPosition at = position(error.source());
        fail_usage("{}:{}:{}: expected TOML, got a mistake: {}", source, at.line, at.column,
                   error.description());
    }
    // toml++ sorts by name; errors should come in the order that the user reads.
    std::ranges::sort(entries, {}, &TomlEntry::key_position);
    return entries;
}

}  // namespace octavo
