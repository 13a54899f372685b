#include "config/value.h"

#include <cmath>

#include "config/expect_usage_error.h"

namespace octavo {
namespace {

ConfigValue parse(const char* text, ValueType type, const Rule& rule = {}) {
    return parse_value(text, type, rule);
}

std::string refusal(const char* text, ValueType type, const Rule& rule = {}) {
    return usage_error([&] { parse_value(text, type, rule); });
}

TEST(ConfigValue, ParsesEachType) {
    EXPECT_EQ(parse("-12", ValueType::integer), ConfigValue(std::int64_t{-12}));
    EXPECT_EQ(parse("3e-4", ValueType::number), ConfigValue(3e-4));
    EXPECT_EQ(parse("7", ValueType::number), ConfigValue(7.0));
    EXPECT_EQ(parse("on", ValueType::boolean), ConfigValue(true));
    EXPECT_EQ(parse("false", ValueType::boolean), ConfigValue(false));
    EXPECT_EQ(parse("", ValueType::text), ConfigValue(std::string()));
    EXPECT_EQ(parse("a.bin,b c.bin", ValueType::list),
              ConfigValue(std::vector<std::string>{"a.bin", "b c.bin"}));
    EXPECT_EQ(parse("", ValueType::list), ConfigValue(std::vector<std::string>{}));
    EXPECT_EQ(parse("1,0.5", ValueType::numbers), ConfigValue(std::vector<double>{1, 0.5}));
    EXPECT_EQ(parse("", ValueType::numbers), ConfigValue(std::vector<double>{}));
    EXPECT_EQ(to_toml(ConfigValue(std::vector<double>{1, 0.5})), "[1, 0.5]");
}

TEST(ConfigValue, RefusesWhatIsNotOfTheType) {
    EXPECT_EQ(refusal("1.5", ValueType::integer), "expected an integer, got '1.5'");
    EXPECT_EQ(refusal("1e3", ValueType::integer), "expected an integer, got '1e3'");
    EXPECT_EQ(refusal("", ValueType::integer), "expected an integer, got ''");
    EXPECT_EQ(refusal("99999999999999999999", ValueType::integer),
              "expected an integer, got '99999999999999999999'");
    EXPECT_EQ(refusal("1.5x", ValueType::number), "expected a number, got '1.5x'");
    EXPECT_EQ(refusal("1,x", ValueType::numbers), "expected a list of numbers, got '1,x'");
    EXPECT_EQ(refusal("maybe", ValueType::boolean), "expected true or false, got 'maybe'");
    EXPECT_EQ(refusal("a\xff", ValueType::text), "expected UTF-8 text, got 2 bytes that are not");
}

TEST(ConfigValue, RefusesEveryKindOfBrokenUtf8) {
    for (const char* text : {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                             "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xc3("}) {
        EXPECT_NE(refusal(text, ValueType::text).find("UTF-8"), std::string::npos);
    }
    for (const char* text : {"\xc3\xa9", "\xe2\x82\xac", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
        EXPECT_EQ(parse(text, ValueType::text), ConfigValue(std::string(text)));
    }
}

TEST(ConfigValue, HoldsTheRangeAtItsEnds) {
    EXPECT_NO_THROW(check_value(std::int64_t{1}, at_least(1)));
    EXPECT_NO_THROW(check_value(1.0, between(0, 1)));
    EXPECT_NO_THROW(check_value(0.0, between_below(0, 1)));
    EXPECT_EQ(refusal("0", ValueType::integer, at_least(1)), "expected an integer >= 1, got 0");
    EXPECT_EQ(refusal("0", ValueType::number, above(0)), "expected a number > 0, got 0");
    EXPECT_EQ(refusal("1", ValueType::number, between_below(0, 1)),
              "expected a number in [0, 1), got 1");
    EXPECT_EQ(refusal("1.25", ValueType::number, between(0, 1)),
              "expected a number in [0, 1], got 1.25");
    EXPECT_EQ(refusal("nan", ValueType::number), "expected a number, got nan");
    EXPECT_EQ(refusal("inf", ValueType::number, at_least(0)), "expected a number >= 0, got inf");
}

TEST(ConfigValue, HoldsTheChoices) {
    EXPECT_EQ(parse("wsd", ValueType::text, one_of({"cosine", "wsd"})),
              ConfigValue(std::string("wsd")));
    EXPECT_EQ(refusal("cos", ValueType::text, one_of({"cosine", "wsd"})),
              "expected one of cosine, wsd, got \"cos\"");
}

TEST(ConfigValue, WritesToml) {
    EXPECT_EQ(to_toml(ConfigValue(std::int64_t{-3})), "-3");
    EXPECT_EQ(to_toml(ConfigValue(0.1)), "0.1");
    EXPECT_EQ(to_toml(ConfigValue(false)), "false");
    EXPECT_EQ(to_toml(ConfigValue(std::string("a\"b\\c\n\x7f"))), R"("a\"b\\c\u000A\u007F")");
    EXPECT_EQ(to_toml(ConfigValue(std::vector<std::string>{"a", "b"})), R"(["a", "b"])");
}

}  // namespace
}  // namespace octavo
