// A run that measures its casts, and what one can see of it.
#include "report/scales.h"

#include <algorithm>

#include "cli/program.h"
#include "report/metrics.h"

namespace octavo::test {
namespace {

class Scales : public Workspace {
  protected:
    std::vector<std::int64_t> steps(const std::string& dir) const {
        std::vector<std::int64_t> found;
        for (const CastStep& s : read_scales(folder_ / dir / "scales.jsonl").steps) {
            found.push_back(s.step);
        }
        return found;
    }
};

TEST_F(Scales, TheFirstStepAndEveryTenthAreMeasured) {
    for (const char* recipe : {"fp8-lm", "moss", "blockwise"}) {
        const std::string dir = recipe;
        const Finished trained = run(train(dir, recipe, {"--diag.interval", "10"}));
        ASSERT_EQ(trained.exit_code, 0) << trained.text;
        EXPECT_EQ(steps(dir), (std::vector<std::int64_t>{1, 10, 20}));
        EXPECT_NE(slurp(folder_ / dir / "metrics.jsonl").find("\"quant.flushed_max\":"),
                  std::string::npos);
        EXPECT_NE(slurp(folder_ / dir / "report.html").find("Casts to 8 bits"), std::string::npos);

        const Finished table = run({"inspect", "scales", path(dir), "--tensor", "1.mlp.down_proj"});
        EXPECT_EQ(table.exit_code, 0) << table.text;
        EXPECT_NE(table.text.find("3 measured steps, 1 to 20"), std::string::npos) << table.text;
        EXPECT_NE(table.text.find("model.layers.1.mlp.down_proj.dy"), std::string::npos);
        EXPECT_EQ(table.text.find("model.layers.0"), std::string::npos);
        EXPECT_EQ(run({"inspect", "scales", path(dir), "--step", "20"}).exit_code, 0);
        const Finished between = run({"inspect", "scales", path(dir), "--step", "11"});
        EXPECT_EQ(between.exit_code, 1);
        EXPECT_NE(between.text.find("The nearest that were: 10 and 20."), std::string::npos);
    }
}

TEST_F(Scales, NothingIsMeasuredWhereThereAreNoEightBits) {
    ASSERT_EQ(run(train("plain", "bf16")).exit_code, 0);
    ASSERT_EQ(run(train("off", "fp8-lm", {"--diag.interval", "0"})).exit_code, 0);
    for (const char* dir : {"plain", "off"}) {
        EXPECT_FALSE(std::filesystem::exists(folder_ / dir / "scales.jsonl"));
        const Finished refused = run({"inspect", "scales", path(dir)});
        EXPECT_EQ(refused.exit_code, 1);
        EXPECT_NE(refused.text.find("expected scales.jsonl"), std::string::npos) << refused.text;
    }
}

// Layer by layer, under every recipe, on the steps that measure.
TEST_F(Scales, RunsTellOfTheirFeedForwardLayers) {
    for (const char* recipe : {"bf16", "smooth-swiglu"}) {
        ASSERT_EQ(run(train(recipe, recipe, {"--diag.interval", "10"})).exit_code, 0);
        for (const StepMetrics& m : read_metrics(folder_ / recipe / "metrics.jsonl").steps) {
            const auto has = [&](std::string_view name) {
                return std::ranges::any_of(m.extra, [&](const auto& x) { return x.first == name; });
            };
            const bool measured = m.step == 1 || m.step % 10 == 0;
            const bool smooth = std::string_view(recipe) != "bf16";
            EXPECT_EQ(has("swiglu.cos_p99.0"), measured) << m.step;
            EXPECT_EQ(has("swiglu.amax.1"), measured) << m.step;
            EXPECT_EQ(has("swiglu.sig_max.1"), measured && smooth) << m.step;
            EXPECT_EQ(has("adam.v_flush_frac.1"), measured && smooth) << m.step;
        }
        const std::string page = slurp(folder_ / recipe / "report.html");
        EXPECT_NE(page.find("<h2>Feed-forward layers</h2>"), std::string::npos);
        EXPECT_EQ(page.find("<figcaption>swiglu."), std::string::npos);
    }
    ASSERT_EQ(run(train("off", "smooth-swiglu", {"--diag.interval", "0"})).exit_code, 0);
    for (const char* name : {"swiglu.", "adam."}) {
        EXPECT_EQ(slurp(folder_ / "off" / "metrics.jsonl").find(name), std::string::npos);
    }
}

// A learning rate far too large: delayed scales cannot follow.
TEST_F(Scales, ARunWarnsOfWhatIsLost) {
    const Finished trained =
        run(train("wild", "fp8-lm",
                  {"--diag.interval", "1", "--train.lr", "0.3", "--train.clip", "0",
                   "--recipe.history", "1", "--train.warmup_steps", "1"}));
    EXPECT_NE(trained.text.find("warning: step "), std::string::npos) << trained.text;
    EXPECT_NE(trained.text.find(" saturate"), std::string::npos) << trained.text;
}

}  // namespace
}  // namespace octavo::test
