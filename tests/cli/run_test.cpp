#include "cli/run.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <stdexcept>

#include "base/error.h"
#include "cli/verbs.h"

namespace octavo {
namespace {

const std::vector<Verb>& verbs() {
    static const std::vector<Verb> table = {
        {.name = "stop", .help = "", .run = [](const Args&) { return 130; }},
        {.name = "fail", .help = "", .run = [](const Args&) -> int { fail("a: b\n  Do c."); }},
        {.name = "usage", .help = "", .run = [](const Args&) -> int { fail_usage("a: b"); }},
        {.name = "memory", .help = "", .run = [](const Args&) -> int { throw std::bad_alloc(); }},
        {.name = "other",
         .help = "",
         .run = [](const Args&) -> int { throw std::logic_error("odd"); }},
    };
    return table;
}

struct Outcome {
    int code;
    std::string errors;
};

Outcome outcome(const std::vector<std::string>& words) {
    std::FILE* file = std::tmpfile();
    const int code = run(words, verbs(), file);
    std::rewind(file);
    std::string errors(10000, '\0');
    errors.resize(std::fread(errors.data(), 1, errors.size(), file));
    std::fclose(file);
    return {code, errors};
}

TEST(Run, ExitCodesAndWords) {
    EXPECT_EQ(outcome({"stop"}).code, 130);
    EXPECT_EQ(outcome({"stop"}).errors, "");
    EXPECT_EQ(outcome({"fail"}).code, 1);
    EXPECT_EQ(outcome({"fail"}).errors, "octavo: a: b\n  Do c.\n");
    EXPECT_EQ(outcome({"usage"}).code, 2);
    EXPECT_EQ(outcome({"usage"}).errors, "octavo: a: b\n");
    EXPECT_EQ(outcome({"memory"}).code, 1);
    EXPECT_TRUE(outcome({"memory"}).errors.starts_with("octavo: out of memory\n  lower "));
    EXPECT_EQ(outcome({"other"}).code, 1);
    EXPECT_EQ(outcome({"other"}).errors, "octavo: odd\n");
    EXPECT_EQ(outcome({"nonsense"}).code, 2);
    EXPECT_EQ(outcome({"--help"}).code, 0);
}

TEST(Run, DoctorNamesEveryLibrary) {
    testing::internal::CaptureStdout();
    EXPECT_EQ(run({"doctor"}, all_verbs(), stderr), 0);
    const std::string text = testing::internal::GetCapturedStdout();
    for (const char* name :
         {"processor", "threads", "memory", "octavo", "compiler", "fmt", "oneDNN", "nlohmann/json",
          "toml++", "CLI11", "zstd", "xxhash", "PCRE2", "utf8proc"}) {
        EXPECT_NE(text.find(std::string("  ") + name + " "), std::string::npos) << name << "\n"
                                                                                << text;
    }
}

}  // namespace
}  // namespace octavo
