#include "report/metrics.h"

#include <limits>

#include "base/file.h"
#include "base/rng.h"
#include "sample.h"

namespace octavo {
namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();

std::string lines(std::int64_t from, std::int64_t to) {
    std::string text;
    for (std::int64_t step = from; step <= to; ++step)
        text += metrics_line(sample_step(step)) + '\n';
    return text;
}

std::vector<std::int64_t> steps_of(const std::filesystem::path& path) {
    std::vector<std::int64_t> steps;
    for (const StepMetrics& step : read_metrics(path).steps) steps.push_back(step.step);
    return steps;
}

TEST(Metrics, LineHasTheDocumentedForm) {
    StepMetrics m;
    m.step = 100;
    m.time_s = 1760000000.5;
    m.tokens = 204800;
    m.loss = 2.345;
    m.grad_norm = 0.81;
    m.lr = 3e-4;
    m.tokens_per_s = 61200;
    m.share_of_peak = 0.453;
    m.memory_gb = 1.24;
    EXPECT_EQ(metrics_line(m),
              R"({"step":100,"time":1760000000.5,"tokens":204800,"loss":2.345,"grad_norm":0.81,)"
              R"("lr":0.0003,"tok_s":61200.0,"sol":0.453,"mem_gb":1.24})");
    m.loss = kNan;
    m.grad_norm = kInf;
    m.held_out_loss = 2.401;
    m.extra = {{"amax.\"x\"", 0.25}};
    EXPECT_EQ(metrics_line(m),
              R"({"step":100,"time":1760000000.5,"tokens":204800,"loss":null,"grad_norm":null,)"
              R"("lr":0.0003,"tok_s":61200.0,"sol":0.453,"mem_gb":1.24,"held_out_loss":2.401,)"
              R"("amax.\"x\"":0.25,"nonfinite":{"loss":"nan","grad_norm":"inf"}})");
}

TEST(Metrics, ReadsBackEveryBit) {
    StepMetrics m = sample_step(50);
    m.loss = 0.1 + 0.2;
    m.lr = std::numeric_limits<double>::denorm_min();
    m.grad_norm = -kInf;
    m.extra = {{"amax", 1.0 / 3}, {"scale", kInf}};
    const MetricsFile file = parse_metrics(metrics_line(m) + '\n', "m");
    ASSERT_EQ(file.steps.size(), 1u);
    EXPECT_EQ(file.steps[0], m);
    EXPECT_EQ(file.note, "");

    m.loss = kNan;
    const StepMetrics back = parse_metrics(metrics_line(m) + '\n', "m").steps.at(0);
    EXPECT_TRUE(std::isnan(back.loss));
    EXPECT_EQ(back.grad_norm, -kInf);
}

TEST(Metrics, RefusesAnExtraThatHidesAField) {
    StepMetrics m = sample_step(1);
    m.extra = {{"lr", 1.0}};
    EXPECT_THROW(metrics_line(m), Error);
}

TEST(Metrics, PassesOverWhatItDoesNotKnow) {
    std::string line = metrics_line(sample_step(1));
    line.insert(line.size() - 1, R"(,"host":"a","flags":[1,2])");
    EXPECT_EQ(parse_metrics(line + '\n', "m").steps.at(0), sample_step(1));
}

TEST(Metrics, EveryTornEndIsSkippedWithANote) {
    const std::string whole = lines(1, 3);
    const std::string two = lines(1, 2);
    for (std::size_t size = two.size() + 1; size + 1 < whole.size(); ++size) {
        const MetricsFile file = parse_metrics(whole.substr(0, size), "m");
        EXPECT_EQ(file.steps.size(), 2u) << size;
        EXPECT_EQ(file.note, "m: skipped line 3, torn by a crash");
    }
    // Only the line break is missing.
    EXPECT_EQ(parse_metrics(whole.substr(0, whole.size() - 1), "m").steps.size(), 3u);
    EXPECT_EQ(parse_metrics("", "m").steps.size(), 0u);
}

TEST(Metrics, ABadLineInTheMiddleIsAnErrorWithItsNumber) {
    const auto parse = [](const std::string& bad) {
        return error_of([&] { parse_metrics(lines(1, 2) + bad + '\n' + lines(3, 4), "run/m"); });
    };
    const std::string remedy = "\n  The file was changed by hand or damaged: remove that line.";
    EXPECT_EQ(parse("{\"step\":"),
              "run/m: line 3: expected one JSON object, got text that is not JSON" + remedy);
    EXPECT_EQ(parse("[1]"), "run/m: line 3: expected one JSON object, got array" + remedy);
    EXPECT_EQ(parse("{}"), "run/m: line 3: expected the key \"step\", got none" + remedy);
    EXPECT_EQ(parse(metrics_line(sample_step(2))),
              "run/m: line 3: expected a step after 2, got 2" + remedy);
    EXPECT_EQ(parse(R"({"step":-3,"tokens":1})"),
              "run/m: line 3: expected a count for \"step\", got -3" + remedy);
    EXPECT_EQ(parse(R"({"step":18446744073709551615,"tokens":1})"),
              "run/m: line 3: expected a count for \"step\", got 18446744073709551615" + remedy);
    EXPECT_EQ(parse(R"({"step":3,"tokens":1,"time":"now"})"),
              "run/m: line 3: expected a number for \"time\", got string" + remedy);
    EXPECT_EQ(parse(R"({"step":3,"tokens":1,"time":1})"),
              "run/m: line 3: expected the key \"loss\", got none" + remedy);
    EXPECT_EQ(parse(""),
              "run/m: line 3: expected one JSON object, got text that is not JSON" + remedy);
}

TEST(Metrics, SurvivesDamageOfAnyKind) {
    const std::string good = lines(48, 52);
    const Rng rng(11, 0);
    int errors = 0;
    for (std::uint64_t round = 0; round < 5000; ++round) {
        std::string text = good;
        for (std::uint64_t k = 0; k < 1 + round % 4; ++k) {
            const std::uint64_t bits = rng.bits64(8 * round + k);
            const std::size_t at = (bits >> 16) % text.size();
            if (bits & 1)
                text[at] = static_cast<char>(bits >> 8 & 0xff);
            else
                text.erase(at, 1 + (bits >> 8 & 0xf));
        }
        try {
            parse_metrics(text, "m");
        } catch (const Error&) {
            ++errors;
        }
    }
    EXPECT_GT(errors, 1000);
    EXPECT_LT(errors, 5000);
}

TEST(MetricsLog, ResumeDropsLaterSteps) {
    const TempFolder folder;
    const auto path = folder.path() / "metrics.jsonl";
    {
        MetricsLog log = MetricsLog::open(path, MetricsLog::kNewRun);
        for (int step = 1; step <= 6; ++step) log.append(sample_step(step));
    }
    // A line without its end, as a killed process may leave it.
    write_text(path, read_file(path) + R"({"step":7,"ti)");
    {
        MetricsLog log = MetricsLog::open(path, 4);
        EXPECT_NE(log.note().find("skipped line 7"), std::string::npos);
        EXPECT_EQ(steps_of(path), (std::vector<std::int64_t>{1, 2, 3, 4}));
        log.append(sample_step(5));
        EXPECT_NE(error_of([&] { log.append(sample_step(5)); }).find("expected a step after 5"),
                  std::string::npos);
    }
    EXPECT_EQ(read_file(path), lines(1, 5));

    // Nothing to drop: the file stays as it is.
    MetricsLog::open(path, 5).append(sample_step(6));
    EXPECT_EQ(read_file(path), lines(1, 6));
    // A whole last line that lost its line break must not merge with the next.
    write_text(path, lines(1, 2).substr(0, lines(1, 2).size() - 1));
    MetricsLog::open(path, 1).append(sample_step(2));
    EXPECT_EQ(read_file(path), lines(1, 2));
    // A new run starts over, whatever was there.
    write_text(path, "garbage\n");
    MetricsLog::open(path, MetricsLog::kNewRun).append(sample_step(0));
    EXPECT_EQ(read_file(path), lines(0, 0));
}

TEST(MetricsLog, ResumeKeepsForeignKeys) {
    const TempFolder folder;
    const auto path = folder.path() / "metrics.jsonl";
    std::string line = metrics_line(sample_step(1));
    line.insert(line.size() - 1, R"(,"host":"a")");
    write_text(path, line + '\n' + lines(2, 3));
    MetricsLog::open(path, 2);
    EXPECT_EQ(read_file(path), line + '\n' + lines(2, 2));
}

TEST(MetricsLog, EveryLineIsThereAtOnce) {
    const TempFolder folder;
    const auto path = folder.path() / "metrics.jsonl";
    MetricsLog log = MetricsLog::open(path, MetricsLog::kNewRun);
    for (int step = 1; step <= 3; ++step) {
        log.append(sample_step(step));
        EXPECT_EQ(read_file(path), lines(1, step));
    }
}

TEST(AppendFile, AFullDiskIsAnErrorThatSaysSo) {
    if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
    AppendFile file("/dev/full");
    EXPECT_EQ(error_of([&] { file.append("x"); }),
              "/dev/full: cannot append: No space left on device\n"
              "  The disk is full: free some space.");
    EXPECT_EQ(error_of([] { AppendFile("/nowhere/metrics.jsonl"); }),
              "/nowhere/metrics.jsonl: cannot open for appending: No such file or directory\n"
              "  Check the path and its permissions.");
}

}  // namespace
}  // namespace octavo
