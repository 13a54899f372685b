#include "report/scales.h"

#include <cmath>
#include <limits>

#include "base/file.h"
#include "base/rng.h"
#include "report/cast_warnings.h"
#include "report/scales_table.h"
#include "sample.h"

namespace octavo {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

bool same(const CastStats& a, const CastStats& b) {
    const auto bits = [](const CastStats& s) {
        return std::bit_cast<std::array<std::uint32_t, kCastStats>>(s);
    };
    return bits(a) == bits(b);
}

std::vector<std::int64_t> steps_of(const std::filesystem::path& path) {
    std::vector<std::int64_t> steps;
    for (const CastStep& step : read_scales(path).steps) steps.push_back(step.step);
    return steps;
}

TEST(Scales, LinesReadBackExactly) {
    const CastStep step{.step = 700,
                        .tensors = {{"model.layers.0.mlp.up_proj.x",
                                     {3.4028235e38f, 0x1p-126f, 1.1754942e-38f, 1.0f / 3, 0, 0.1f}},
                                    {"a \"quoted\" name", {1, 2, 3, 4, 5, 6}},
                                    {"b", {}}}};
    const ScalesFile file = parse_scales(scales_line(step) + '\n', "s");
    ASSERT_EQ(file.steps.size(), 1u);
    EXPECT_EQ(file.steps[0].step, 700);
    ASSERT_EQ(file.steps[0].tensors.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(file.steps[0].tensors[i].tensor, step.tensors[i].tensor);
        EXPECT_TRUE(same(file.steps[0].tensors[i].stats, step.tensors[i].stats)) << i;
    }
}

TEST(Scales, TheLineIsTheOneInTheHeader) {
    const CastStep step{.step = 100,
                        .tensors = {{"x", {3.5f, 0x1p-7f, 0x1p-7f, 0, 0.0012f, kNan}},
                                    {"y", {INFINITY, 1, 1, 0, 0, 0}}}};
    const std::string line = scales_line(step);
    EXPECT_EQ(line, R"({"step":100,"tensors":{"x":[3.5,0.0078125,0.0078125,0,0.0012,null],)"
                    R"("y":[null,1,1,0,0,0]}})");
    const auto back = parse_scales(line + '\n', "s").steps.at(0).tensors;
    EXPECT_TRUE(std::isnan(back.at(0).stats.error));
    EXPECT_TRUE(std::isnan(back.at(1).stats.amax));
}

TEST(Scales, BadLinesAreErrorsAndTornOnesAreSkipped) {
    const auto parse = [](const std::string& text) {
        return error_of([&] { parse_scales(text + '\n', "run/s"); });
    };
    const std::string remedy = "\n  The file was changed by hand or damaged: remove that line.";
    EXPECT_EQ(parse("{\"step\":"),
              "run/s: line 1: expected one JSON object, got text that is not JSON" + remedy);
    EXPECT_EQ(parse("{\"step\":1}"),
              "run/s: line 1: expected an object for \"tensors\", got none" + remedy);
    EXPECT_EQ(parse("{\"step\":1,\"tensors\":{\"x\":[1,2]}}"),
              "run/s: line 1: expected 6 numbers for \"x\", got 2" + remedy);
    EXPECT_EQ(parse("{\"step\":1,\"tensors\":{\"x\":[1,2,3,4,5,\"6\"]}}"),
              "run/s: line 1: expected numbers for \"x\", got string" + remedy);
    const std::string whole = scales_line(sample_casts(1)) + '\n' + scales_line(sample_casts(2));
    for (std::size_t size = scales_line(sample_casts(1)).size() + 2; size < whole.size(); ++size) {
        const ScalesFile file = parse_scales(whole.substr(0, size), "s");
        EXPECT_EQ(file.steps.size(), 1u);
        EXPECT_EQ(file.note, "s: skipped line 2, torn by a crash");
    }
    // More numbers than this version knows.
    EXPECT_EQ(parse_scales("{\"step\":1,\"tensors\":{\"x\":[1,2,3,4,5,6,7]}}\n", "s").steps.size(),
              1u);
}

TEST(Scales, ResumeDropsLaterSteps) {
    const TempFolder folder;
    const auto path = folder.path() / "scales.jsonl";
    {
        ScalesLog log = ScalesLog::open(path, StepLog::kNewRun);
        for (int step : {1, 10, 20, 30}) log.append(sample_casts(step));
    }
    write_text(path, read_file(path) + R"({"step":40,"ten)");
    {
        ScalesLog log = ScalesLog::open(path, 25);
        EXPECT_EQ(steps_of(path), (std::vector<std::int64_t>{1, 10, 20}));
        log.append(sample_casts(30));
    }
    EXPECT_EQ(steps_of(path), (std::vector<std::int64_t>{1, 10, 20, 30}));
    ScalesLog::open(path, StepLog::kNewRun);
    EXPECT_EQ(read_file(path), "");
}

TEST(Scales, NamesComeApart) {
    const auto expect = [](std::string_view tensor, const char* kind, const char* role, int layer) {
        const TensorName name = split_tensor_name(tensor);
        EXPECT_EQ(name.kind, kind) << tensor;
        EXPECT_EQ(name.role, role) << tensor;
        EXPECT_EQ(name.layer, layer) << tensor;
    };
    expect("model.layers.13.mlp.up_proj.x_t", "mlp.up_proj", "x_t", 13);
    expect("h.0.attn.c_attn.weight", "attn.c_attn", "weight", 0);
    expect("lm_head.x", "lm_head", "x", -1);
    expect("x", "x", "", -1);
    expect("", "", "", -1);
    expect("7.", "", "", 7);
}

TEST(Scales, WorstOfAStep) {
    CastStep step = sample_casts(3);
    EXPECT_TRUE(worst_of({.step = 3, .tensors = {}}).empty());
    step.tensors[1].stats.saturated = 0.25f;
    step.tensors[2].stats.error = kNan;
    const auto worst = worst_of(step);
    ASSERT_EQ(worst.size(), 3u);
    EXPECT_EQ(worst[0], (std::pair<std::string, double>("quant.saturated_max", 0.25)));
    EXPECT_EQ(worst[1].first, "quant.flushed_max");
    EXPECT_TRUE(std::isnan(worst[2].second));
}

TEST(CastWarnings, NameTheWorstOnceAndCountTheOthers) {
    CastWarnings warnings;
    CastStep step = sample_casts(100);
    for (TensorCast& t : step.tensors) t.stats.saturated = t.stats.flushed = 0;
    EXPECT_TRUE(warnings.look_at(step).empty());
    EXPECT_EQ(warnings.summary(), "");
    step.tensors[0].stats.saturated = kSaturatedLimit;  // not above
    step.tensors[0].stats.flushed = kFlushedLimit;
    EXPECT_TRUE(warnings.look_at(step).empty());

    step.tensors[0].stats.saturated = 0.002f;
    step.tensors[1].stats.saturated = 0.0312f;
    step.tensors[2].stats.saturated = kNan;
    const auto lines = warnings.look_at(step);
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_EQ(lines[0],
              "warning: step 100: 3.12 % of the values of " + step.tensors[1].tensor +
                  " saturate, and more than 0.1 % of 1 tensor more\n  Where scales are of earlier "
                  "steps, recipe.margin leaves room; else, or if they go on growing, lower "
                  "train.lr.");
    EXPECT_TRUE(warnings.look_at(step).empty());  // known

    step.tensors[0].stats.flushed = 0.5f;
    const auto flushed = warnings.look_at(step);
    ASSERT_EQ(flushed.size(), 1u);
    EXPECT_NE(flushed[0].find("50 % of the values of " + step.tensors[0].tensor + " become 0\n"),
              std::string::npos);
    EXPECT_EQ(warnings.summary(),
              "in some measured step more than 0.1 % of the values saturated in 2 tensors, and "
              "more than 1 % became 0 in 1 tensor; octavo inspect scales shows when");
}

TEST(ScalesTable, ShowsHowARunWent) {
    const auto cast = [](float amax, float low, float high, float saturated, float flushed,
                         float error) {
        return CastStats{amax, low, high, saturated, flushed, error};
    };
    const std::vector<CastStep> steps = {
        {1, {{"layers.0.a.x", cast(1, 0.25f, 0.5f, 0, 0, 0.025f)}, {"layers.0.b.dy", {}}}},
        {10,
         {{"layers.0.a.x", cast(7, 0.125f, 4, 0.5f, 0.001f, 0.03f)},
          {"layers.0.b.dy", cast(1, 1, 1, 0, 0, kNan)}}},
        {20, {{"layers.0.a.x", cast(2, 1, 2, 0.25f, 0, 0.01f)}, {"layers.0.b.dy", {}}}}};
    EXPECT_EQ(scales_table(steps, {.tensor = "a.x"}),
              "3 measured steps, 1 to 20; @ is the step of the worst\n"
              "scales as log2 of what a code of 1 stands for\n\n"
              "tensor        first  last    min   max   amax  saturated    flushed    error\n"
              "layers.0.a.x  -1.00  1.00  -3.00  2.00  7 @10   50 % @10  0.1 % @10  3 % @10\n");
    EXPECT_EQ(scales_table(steps, {.tensor = "a.x", .step = 10}),
              "step 10\n"
              "scales as log2 of what a code of 1 stands for\n\n"
              "tensor          min   max  amax  saturated  flushed  error\n"
              "layers.0.a.x  -3.00  2.00     7       50 %    0.1 %    3 %\n");
    EXPECT_NE(scales_table(steps, {}).find("nan"), std::string::npos);
    EXPECT_EQ(error_of([&] { scales_table(steps, {.tensor = "q_proj"}); }),
              "no tensor has 'q_proj' in its name\n  There is, for example, layers.0.a.x.");
    EXPECT_EQ(error_of([&] { scales_table(steps, {.step = 15}); }),
              "step 15 was not measured\n  The nearest that were: 10 and 20.");
    EXPECT_EQ(error_of([&] { scales_table(steps, {.step = 21}); }),
              "step 21 was not measured\n  The nearest that were: 20.");
    EXPECT_EQ(error_of([&] { scales_table({}, {}); }),
              "no step of this run was measured yet\n  The first one is, and then every "
              "diag.interval steps.");
}

TEST(ScalesTable, NeedsARunThatMeasured) {
    const TempFolder folder;
    EXPECT_EQ(
        error_of([&] { load_scales(folder.path()); }),
        folder.path().string() +
            ": expected scales.jsonl in the folder of a run\n  Runs write it whose recipe has "
            "8-bit tensors, with diag.interval above 0.");
    EXPECT_NE(error_of([] { load_scales("/nowhere"); }).find("nothing there"), std::string::npos);
    write_text(folder.path() / "scales.jsonl", scales_line(sample_casts(4)) + '\n');
    EXPECT_EQ(load_scales(folder.path()).size(), 1u);
}

}  // namespace
}  // namespace octavo
