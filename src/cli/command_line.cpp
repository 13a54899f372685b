// CLI11 recognises verbs and flags; what they mean comes from the verb table and the schema.
#include "cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/nearest.h"
#include "base/version.h"
#include "cli/help.h"
#include "config/load.h"
#include "config/schema.h"

namespace octavo {
namespace {

void declare(CLI::App& app, const Verb& verb) {
    // The texts of --help are ours: CLI11's flag would throw before the verb is known.
    app.set_help_flag();
    app.add_flag("-h,--help");
    for (const Verb& action : verb.actions) {
        declare(*app.add_subcommand(action.name), action);
    }
    for (const Flag& flag : verb.flags) {
        if (flag.initial == ConfigValue(false)) {
            app.add_flag("--" + flag.name);
        } else {
            app.add_option("--" + flag.name);
        }
    }
    for (const Shorthand& shorthand : verb.shorthands) {
        app.add_option("--" + shorthand.name);
    }
    if (verb.config) {
        for (const Key& key : schema()) {
            app.add_option("--" + key.name);
        }
    }
}

// The last value given for --name, if any.
std::optional<std::string> given(const CLI::App& app, const std::string& name) {
    const CLI::Option* option = app.get_option("--" + name);
    if (option->count() == 0) {
        return std::nullopt;
    }
    return option->results().back();
}

// `path` is the verb and its action, such as "inspect plan"; empty before a verb is known.
std::string command(const std::string& path) { return path.empty() ? "octavo" : "octavo " + path; }
std::string where(const std::string& path) { return path.empty() ? "" : path + ": "; }

bool is_flag(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

[[noreturn]] void unknown_flag(const std::string& word, const Verb& verb, const std::string& path) {
    const std::string name = word.substr(0, word.find('='));
    std::vector<std::string> names = {"--help"};
    for (const Flag& flag : verb.flags) {
        names.push_back("--" + flag.name);
    }
    for (const Shorthand& shorthand : verb.shorthands) {
        names.push_back("--" + shorthand.name);
    }
    std::string hint = nearest(name, names);
    if (!hint.empty()) {
        hint = fmt::format("did you mean '{}'?", hint);
    } else if (verb.config) {
        hint = suggest_key(name.substr(name.find_first_not_of('-')));
    } else {
        hint = fmt::format("{} --help lists its flags", command(path));
    }
    throw Error(fmt::format("{}unknown flag '{}'", where(path), name), hint, ErrorKind::usage);
}

// `extras` are the words that CLI11 could not place where a verb was expected.
[[noreturn]] void no_verb(const std::vector<std::string>& extras, const std::vector<Verb>& verbs,
                          const std::string& path) {
    std::vector<std::string> names;
    for (const Verb& verb : verbs) {
        names.push_back(verb.name);
    }
    const char* what = path.empty() ? "a verb" : "an action";
    const std::string got = extras.empty() ? "none" : fmt::format("'{}'", extras.front());
    const std::string near = extras.empty() ? "" : nearest(extras.front(), names);
    throw Error(fmt::format("{}expected {}, got {}", where(path), what, got),
                near.empty() ? fmt::format("it is one of {}; see {} --help", fmt::join(names, ", "),
                                           command(path))
                             : fmt::format("did you mean '{}'?", near),
                ErrorKind::usage);
}

std::map<std::string, ConfigValue, std::less<>> flag_values(const CLI::App& app, const Verb& verb,
                                                            const std::string& path) {
    std::map<std::string, ConfigValue, std::less<>> values;
    for (const Flag& flag : verb.flags) {
        const auto text = given(app, flag.name);
        if (!text && flag.required) {
            fail_usage("{}: expected --{}, got none\n  It is {}.", path, flag.name, flag.help);
        }
        try {
            values[flag.name] = text
                                    ? parse_value(*text, ValueType(flag.initial.index()), flag.rule)
                                    : flag.initial;
        } catch (const Error& error) {
            throw error.in("--" + flag.name);
        }
    }
    return values;
}

std::vector<Override> overrides(const CLI::App& app, const Verb& verb) {
    std::vector<Override> out;
    for (const Key& key : schema()) {
        if (const auto text = given(app, key.name)) {
            out.push_back({key.name, *text, "--" + key.name});
        }
    }
    for (const auto& [name, key] : verb.shorthands) {
        const auto text = given(app, name);
        if (!text) {
            continue;
        }
        if (given(app, key)) {
            fail_usage("--{}: expected it or --{}, got both", name, key);
        }
        out.push_back({key, *text, "--" + name});
    }
    return out;
}

Args arguments(const CLI::App& app, const Verb& verb, const std::string& path,
               std::vector<std::string> words) {
    const bool run_file = verb.config && verb.operands.name.empty();
    const std::size_t max = run_file ? 1 : verb.operands.max;
    const std::string name = run_file ? "RUN.toml" : verb.operands.name;
    if (words.size() > max) {
        fail_usage("{}: expected {}, got '{}'\n  See octavo {} --help.", path,
                   max == 0 ? "no operand" : fmt::format("at most {} {}", max, name), words[max],
                   path);
    }
    if (words.size() < verb.operands.min) {
        fail_usage("{}: expected at least {} {}, got {}\n  See octavo {} --help.", path,
                   verb.operands.min, name, words.size(), path);
    }
    auto flags = flag_values(app, verb, path);
    RunConfig config;
    if (verb.config) {
        std::optional<std::filesystem::path> file;
        if (run_file && !words.empty()) {
            file = words[0];
            words.clear();
        }
        config = load_config(file, overrides(app, verb));
    }
    return Args(std::move(words), std::move(flags), std::move(config));
}

void parse(CLI::App& app, std::vector<std::string> words) {
    // CLI11 takes the next word as the value of `--name=`; given as a word, it keeps the empty one.
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i].starts_with("--") && words[i].find('=') == words[i].size() - 1) {
            words[i].pop_back();
            words.insert(words.begin() + static_cast<std::ptrdiff_t>(++i), "");
        }
    }
    std::ranges::reverse(words);
    try {
        app.parse(words);
    } catch (const CLI::ArgumentMismatch& error) {
        const std::string text = error.what();
        fail_usage("{}: expected a value after it, got none", text.substr(0, text.find(':')));
    } catch (const CLI::ParseError& error) {
        fail_usage("{}", error.what());
    }
}

}  // namespace

Invocation parse_command_line(const std::vector<std::string>& words,
                              const std::vector<Verb>& verbs) {
    CLI::App app;
    app.allow_extras();
    app.require_subcommand(0, 1);
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    const Verb root = {.name = "octavo",
                       .help = "",
                       .flags = {{"version", false, "print the version"}},
                       .actions = verbs};
    declare(app, root);

    // Words after -- are operands, whatever they look like.
    const auto dashes = std::ranges::find(words, "--");
    parse(app, {words.begin(), dashes});

    const CLI::App* level = &app;
    const std::vector<Verb>* table = &verbs;
    const Verb* verb = nullptr;
    std::string path;
    while (true) {
        if (level->count("--help") != 0) {
            return {nullptr, {}, verb ? verb_help(*verb, command(path)) : program_help(verbs)};
        }
        if (!verb && level->count("--version") != 0) {
            return {nullptr, {}, fmt::format("octavo {}\n", kVersion)};
        }
        const auto extras = level->remaining();
        if (const auto flag = std::ranges::find_if(extras, is_flag); flag != extras.end()) {
            unknown_flag(*flag, verb ? *verb : root, path);
        }
        if (verb && verb->actions.empty()) {
            break;
        }
        const auto called = level->get_subcommands();
        if (called.empty()) {
            no_verb(extras, *table, path);
        }
        level = called.front();
        verb = &*std::ranges::find(*table, level->get_name(), &Verb::name);
        table = &verb->actions;
        path += (path.empty() ? "" : " ") + verb->name;
    }

    auto operands = level->remaining();
    if (dashes != words.end()) {
        operands.insert(operands.end(), dashes + 1, words.end());
    }
    return {verb, arguments(*level, *verb, path, std::move(operands)), {}};
}

}  // namespace octavo
