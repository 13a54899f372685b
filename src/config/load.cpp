#include "config/load.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "config/model_presets.h"
#include "config/schema.h"
#include "config/toml_file.h"
#include "config/validate.h"

namespace octavo {
namespace {

struct Setting {
    const Key* key;
    ConfigValue value;
    std::string where;
};

[[noreturn]] void unknown_key(const std::string& where, const std::string& name) {
    throw Error(fmt::format("{}: unknown key '{}'", where, name), suggest_key(name),
                ErrorKind::usage);
}

bool is_model_shape(const Key& key) {
    return key.name.starts_with("model.") && key.name != "model.path" && key.name != "model.preset";
}

std::string at(const std::string& source, const TomlPosition& position) {
    return fmt::format("{}:{}:{}", source, position.line, position.column);
}

Setting from_entry(const TomlEntry& entry, const std::string& source) {
    const std::string where = at(source, entry.value_position);
    const Key* key = find_key(entry.key);
    if (!key) {
        unknown_key(at(source, entry.key_position), entry.key);
    }
    std::optional<ConfigValue> value = entry.value;
    // 1 is a number too, although TOML calls it an integer.
    if (value && key->type == ValueType::number && std::holds_alternative<std::int64_t>(*value)) {
        value = static_cast<double>(std::get<std::int64_t>(*value));
    }
    // An empty list is one of numbers too.
    if (value && key->type == ValueType::numbers &&
        *value == ConfigValue(std::vector<std::string>())) {
        value = std::vector<double>();
    }
    if (!value || ValueType(value->index()) != key->type) {
        fail_usage("{}: {}: expected {}, got {}", where, key->name, describe(key->type, key->rule),
                   entry.got);
    }
    try {
        check_value(*value, key->rule);
    } catch (const Error& error) {
        throw error.in(key->name).in(where);
    }
    return {key, *value, where};
}

Setting from_override(const Override& override) {
    const Key* key = find_key(override.key);
    if (!key) {
        unknown_key(override.spelled, override.key);
    }
    try {
        return {key, parse_value(override.text, key->type, key->rule), override.spelled};
    } catch (const Error& error) {
        throw error.in(override.spelled);
    }
}

// Sets up the model that `layer` names, if it names one.
void start_model(RunConfig& config, const std::vector<Setting>& layer) {
    const Setting *preset = nullptr, *path = nullptr;
    for (const Setting& setting : layer) {
        const auto* text = std::get_if<std::string>(&setting.value);
        if (text && !text->empty()) {
            preset = setting.key->name == "model.preset" ? &setting : preset;
            path = setting.key->name == "model.path" ? &setting : path;
        }
    }
    if (preset && path) {
        fail_usage("{}: expected model.preset or model.path, got both\n  Remove one of them.",
                   path->where);
    }
    if (preset) {
        config.model = model_preset(std::get<std::string>(preset->value));
    } else if (path) {
        config.model = {};
    }
}

void apply_layer(RunConfig& config, const std::vector<Setting>& layer) {
    start_model(config, layer);
    for (const Setting& setting : layer) {
        setting.key->set(config, setting.value);
    }
    if (config.model.path.empty()) {
        return;
    }
    for (const Setting& setting : layer) {
        if (is_model_shape(*setting.key)) {
            throw Error(
                fmt::format("{}: {}: expected no shape beside model.path, got {}", setting.where,
                            setting.key->name, to_toml(setting.value)),
                fmt::format("{}/config.json decides the shape; remove this key", config.model.path),
                ErrorKind::usage);
        }
    }
}

RunConfig resolve(const std::vector<Setting>& file, const std::string& stem,
                  const std::vector<Override>& overrides) {
    std::vector<Setting> line;
    for (const Override& override : overrides) {
        line.push_back(from_override(override));
    }
    RunConfig config;
    apply_layer(config, file);
    apply_layer(config, line);
    if (config.run.dir.empty()) {
        config.run.dir = "runs/" + stem;
    }
    complete(config);
    validate(config);
    return config;
}

}  // namespace

RunConfig parse_config(std::string_view toml, const std::string& source,
                       const std::vector<Override>& overrides) {
    std::vector<Setting> file;
    for (const TomlEntry& entry : parse_toml(toml, source)) {
        if (!(entry.empty_table && is_section(entry.key))) {
            file.push_back(from_entry(entry, source));
        }
    }
    return resolve(file, std::filesystem::path(source).stem().string(), overrides);
}

RunConfig load_config(const std::optional<std::filesystem::path>& file,
                      const std::vector<Override>& overrides) {
    if (!file) {
        return resolve({}, "unnamed", overrides);
    }
    std::string text;
    try {
        text = read_file(*file);
    } catch (const Error& error) {
        // A wrong path on the command line is for the user to correct.
        throw Error(error.message(), "expected a run file, such as configs/demo.toml",
                    ErrorKind::usage);
    }
    return parse_config(text, file->string(), overrides);
}

std::string to_toml(const RunConfig& config) {
    std::string out, section;
    for (const Key& key : schema()) {
        const ConfigValue value = key.get(config);
        const auto* text = std::get_if<std::string>(&value);
        if ((text && text->empty()) || (is_model_shape(key) && !config.model.path.empty())) {
            continue;
        }
        const auto dot = key.name.find('.');
        if (key.name.substr(0, dot) != section) {
            section = key.name.substr(0, dot);
            out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
        }
        out += fmt::format("{} = {}\n", key.name.substr(dot + 1), to_toml(value));
    }
    return out;
}

}  // namespace octavo
