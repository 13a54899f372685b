#include "cli/help.h"

#include <fmt/format.h>

#include <iterator>

#include "config/schema.h"

namespace octavo {
namespace {

const char* placeholder(const ConfigValue& value) {
    switch (ValueType(value.index())) {
        case ValueType::integer:
            return " N";
        case ValueType::number:
            return " X";
        case ValueType::boolean:
            return "";
        case ValueType::text:
            return " TEXT";
        case ValueType::list:
        case ValueType::numbers:
            return " A,B,..";
    }
    return "";
}

std::string line(const std::string& left, const std::string& right) {
    return fmt::format("  {:<28} {}\n", left, right);
}

std::string verb_list(const std::vector<Verb>& verbs) {
    std::string out;
    for (const Verb& verb : verbs) {
        out += line(verb.name, verb.help);
    }
    return out;
}

std::string facts(const Flag& flag) {
    if (flag.required) {
        return " (required)";
    }
    std::string out;
    const auto* text = std::get_if<std::string>(&flag.initial);
    const bool shown = flag.initial != ConfigValue(false) &&
                       flag.initial != ConfigValue(std::string()) &&
                       flag.initial != ConfigValue(std::vector<std::string>());
    if (shown) {
        out = "default " + (text ? *text : to_toml(flag.initial));
    }
    if (const std::string range = describe_range(flag.rule); !range.empty()) {
        out += (out.empty() ? "" : "; ") + range;
    }
    return out.empty() ? "" : " (" + out + ")";
}

std::string operands(const Verb& verb) {
    if (!verb.operands.name.empty()) {
        const auto& [name, min, max] = verb.operands;
        const std::string many = max > 1 ? name + " .." : name;
        return min == 0 ? " [" + many + "]" : " " + many;
    }
    return verb.config ? " [RUN.toml]" : "";
}

}  // namespace

std::string program_help(const std::vector<Verb>& verbs) {
    return "octavo VERB ...\n\n  Trains language models in FP8.\n\nVerbs\n" + verb_list(verbs) +
           "\noctavo VERB --help says what a verb takes; octavo --version is the version.\n";
}

std::string verb_help(const Verb& verb, const std::string& path) {
    if (!verb.actions.empty()) {
        return fmt::format("{} ACTION ...\n\n  {}\n\nActions\n{}", path, verb.help,
                           verb_list(verb.actions));
    }
    const bool has_flags = !verb.flags.empty() || !verb.shorthands.empty();
    std::string out =
        fmt::format("{}{}{}{}\n\n  {}\n", path, operands(verb), has_flags ? " [--flag ..]" : "",
                    verb.config ? " [--section.key=value ..]" : "", verb.help);
    if (has_flags) {
        out += "\nFlags\n";
    }
    for (const Flag& flag : verb.flags) {
        out += line("--" + flag.name + placeholder(flag.initial), flag.help + facts(flag));
    }
    for (const Shorthand& shorthand : verb.shorthands) {
        const ConfigValue value = find_key(shorthand.key)->get(RunConfig());
        out += line("--" + shorthand.name + placeholder(value), "short for --" + shorthand.key);
    }
    if (verb.config) {
        out += "\nKeys of the run file; each is a flag too, which wins over the file\n" +
               schema_help();
    }
    return out;
}

}  // namespace octavo
