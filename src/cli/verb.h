// What a verb of the program is: how it is called, which flags it takes, and the function that does
// it. A verb lives in <verb>.cpp, is declared in verbs.h and listed in verbs.cpp.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/run_config.h"
#include "config/value.h"

namespace octavo {

// A flag of one verb, spelled --name. The type of `initial` is the type of the flag: one that is
// `false` initially takes no argument.
struct Flag {
    std::string name;  // "max-tokens"
    ConfigValue initial;
    std::string help;
    Rule rule = {};
    bool required = false;
};

// A short spelling of a config key: {"recipe", "recipe.name"}.
struct Shorthand {
    std::string name, key;
};

// The arguments that are no flags.
struct OperandRule {
    std::string name = {};  // "FILE"; empty: the verb takes none
    std::size_t min = 0, max = 0;
};

// What the verb's function gets. The types are checked, and the ranges; files are not opened, apart
// from the run file.
class Args {
  public:
    Args() = default;
    Args(std::vector<std::string> operands, std::map<std::string, ConfigValue, std::less<>> flags,
         RunConfig config)
        : operands_(std::move(operands)), flags_(std::move(flags)), config_(std::move(config)) {}

    const std::vector<std::string>& operands() const { return operands_; }

    // The value of --name. T is the type of the flag's initial value: std::int64_t, double, bool,
    // std::string or std::vector<std::string>.
    template <class T>
    const T& flag(std::string_view name) const {
        return std::get<T>(flags_.find(name)->second);
    }

    // Resolved and valid, for verbs with `config`.
    const RunConfig& config() const { return config_; }

  private:
    std::vector<std::string> operands_;
    std::map<std::string, ConfigValue, std::less<>> flags_;
    RunConfig config_;
};

struct Verb {
    std::string name, help;
    // Does it and returns the exit code: 0 done, 1 failed, 130 stopped by the user.
    int (*run)(const Args&) = nullptr;
    // Takes every config key as a flag (--train.lr=3e-4) and, unless it has operands of its own, a
    // run file as its only operand.
    bool config = false;
    OperandRule operands = {};
    std::vector<Flag> flags = {};
    std::vector<Shorthand> shorthands = {};
    // `octavo inspect plan`: a verb with actions is only called through them.
    std::vector<Verb> actions = {};
};

}  // namespace octavo
