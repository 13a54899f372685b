#include "models/generation_config.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "io/scratch.h"

namespace octavo {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(GenerationConfig, EosIsATokenOrAList) {
    const Scratch dir;
    const auto read = [&](const std::string& text) {
        dir.write("generation_config.json", text);
        return read_eos_tokens(dir / "");
    };
    EXPECT_EQ(read_eos_tokens(dir / ""), Ids{});  // no file
    EXPECT_EQ(read(R"({"bos_token_id": 1, "temperature": 0.6})"), Ids{});
    EXPECT_EQ(read(R"({"eos_token_id": null})"), Ids{});
    EXPECT_EQ(read(R"({"eos_token_id": 0})"), Ids{0});
    EXPECT_EQ(read(R"({"eos_token_id": 2147483647})"), Ids{2147483647});
    EXPECT_EQ(read(R"({"eos_token_id": [128001, 128008, 128009]})"), (Ids{128001, 128008, 128009}));
    EXPECT_EQ(read(R"({"eos_token_id": []})"), Ids{});
}

TEST(GenerationConfig, NamesWhatIsWrong) {
    const Scratch dir;
    const auto refused = [&](const std::string& text) {
        dir.write("generation_config.json", text);
        return error_of([&] { read_eos_tokens(dir / ""); });
    };
    for (const char* id :
         {"-1", "2147483648", "1.5", "\"</s>\"", "true", "{}", "[[1]]", "[null]"}) {
        const std::string text = refused(std::string(R"({"eos_token_id": )") + id + "}");
        EXPECT_TRUE(contains(text, "generation_config.json: expected eos_token_id as a token id"))
            << id << ": " << text;
    }
    EXPECT_TRUE(contains(refused(R"({"eos_token_id": [1, -7]})"), "got -7"));
    EXPECT_TRUE(contains(refused("[]"), "generation_config.json: expected a JSON object"));
    EXPECT_TRUE(contains(refused("{"), "generation_config.json: "));
}

}  // namespace
}  // namespace octavo
