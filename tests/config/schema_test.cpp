#include "config/schema.h"

#include <gtest/gtest.h>

#include <set>

#include "config/model_presets.h"
#include "config/validate.h"

namespace octavo {
namespace {

TEST(Schema, NamesAreUniqueAndInSections) {
    std::set<std::string> names;
    for (const Key& key : schema()) {
        EXPECT_TRUE(names.insert(key.name).second) << key.name;
        EXPECT_NE(key.name.find('.'), std::string::npos) << key.name;
        EXPECT_FALSE(key.help.empty()) << key.name;
        EXPECT_EQ(find_key(key.name), &key);
    }
    EXPECT_EQ(find_key("train.nonsense"), nullptr);
    EXPECT_TRUE(is_section("train"));
    EXPECT_FALSE(is_section("train.lr"));
    EXPECT_FALSE(is_section("trai"));
}

TEST(Schema, EveryDefaultObeysItsRule) {
    const RunConfig defaults;
    for (const Key& key : schema()) {
        const ConfigValue value = key.get(defaults);
        EXPECT_EQ(ValueType(value.index()), key.type) << key.name;
        if (value != ConfigValue(std::string())) {
            EXPECT_NO_THROW(check_value(value, key.rule)) << key.name;
        }
    }
}

// A key that is missing from the table, or listed for the wrong member, shows here: setting each
// key to another value than its default must change exactly this key.
TEST(Schema, EachKeySetsItsOwnMember) {
    const RunConfig defaults;
    for (const Key& key : schema()) {
        RunConfig config;
        ConfigValue other = key.get(defaults);
        std::visit(
            [](auto& x) {
                using T = std::decay_t<decltype(x)>;
                if constexpr (std::is_same_v<T, std::string>) {
                    x += "x";
                } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
                    x.push_back("x");
                } else if constexpr (std::is_same_v<T, std::vector<double>>) {
                    x.push_back(0.5);
                } else if constexpr (std::is_same_v<T, bool>) {
                    x = !x;
                } else {
                    x = x + 1;
                }
            },
            other);
        key.set(config, other);
        EXPECT_NE(config, defaults) << key.name;
        for (const Key& each : schema()) {
            EXPECT_EQ(each.get(config), &each == &key ? other : each.get(defaults))
                << key.name << " and " << each.name;
        }
    }
}

TEST(Schema, SuggestsNames) {
    EXPECT_EQ(suggest_key("train.learning_rate"),
              "the keys of 'train' are steps, batch, seq, grad_accum, lr, min_lr_ratio, schedule, "
              "warmup_steps, decay_fraction, beta1, beta2, eps, weight_decay, clip, "
              "router_aux_loss_coef, router_z_loss_coef, seed");
    EXPECT_EQ(suggest_key("train.warmup_step"), "did you mean 'train.warmup_steps'?");
    EXPECT_EQ(suggest_key("optimizer.weight_decay"), "did you mean 'train.weight_decay'?");
    EXPECT_EQ(suggest_key("lr"), "did you mean 'train.lr'?");
    EXPECT_EQ(suggest_key("train"), "'train' is a section: write [train], and its keys below it");
    EXPECT_EQ(suggest_key("foo.bar"),
              "the sections are model, data, train, recipe, smooth, optimizer, eval, diag, "
              "checkpoint, run, runtime; octavo train --help lists all keys");
}

TEST(Schema, HelpHasDefaultUnitAndRange) {
    const std::string help = schema_help();
    for (const Key& key : schema()) {
        EXPECT_NE(help.find("--" + key.name + " "), std::string::npos) << key.name;
    }
    EXPECT_NE(help.find("(default 100 steps; in [0, 1000000000])"), std::string::npos) << help;
    EXPECT_NE(help.find("(default cosine; cosine | linear | wsd | constant)"), std::string::npos);
    EXPECT_NE(help.find("(default true; true | false)"), std::string::npos);
    EXPECT_NE(help.find("(default 0 GB; >= 0)"), std::string::npos);
    for (std::size_t begin = 0, end; begin < help.size(); begin = end + 1) {
        end = help.find('\n', begin);
        EXPECT_LE(end - begin, 110u) << help.substr(begin, end - begin);
    }
}

TEST(ModelPresets, AreCompleteAndValid) {
    for (const std::string& name : model_preset_names()) {
        RunConfig config;
        config.model = model_preset(name);
        complete(config);
        EXPECT_EQ(config.model, model_preset(name)) << name;
        EXPECT_NO_THROW(validate(config)) << name;
        for (const Key& key : schema()) {
            if (key.name.starts_with("model.") && key.name != "model.path") {
                EXPECT_NO_THROW(check_value(key.get(config), key.rule)) << name << key.name;
            }
        }
    }
}

}  // namespace
}  // namespace octavo
