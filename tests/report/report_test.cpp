#include "report/report.h"

#include <algorithm>
#include <regex>

#include "base/file.h"
#include "report/figures.h"
#include "sample.h"

namespace octavo {
namespace {

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++n;
    }
    return n;
}

// Every opened element is closed, in order; the names of attributes and tags are plain.
void expect_well_formed(const std::string& page) {
    std::string html =
        page.substr(0, page.find("<script>")) + page.substr(page.find("</script>") + 9);
    html.erase(html.find("<style>"), html.find("</style>") + 8 - html.find("<style>"));
    std::vector<std::string> open;
    for (std::size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
        const std::size_t end = html.find('>', at);
        ASSERT_NE(end, std::string::npos);
        const std::string tag = html.substr(at + 1, end - at - 1);
        const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
        ASSERT_EQ(tag.find('<'), std::string::npos) << tag;
        ASSERT_EQ(count(tag, "'") % 2, 0u) << tag;
        if (tag[0] == '/') {
            ASSERT_FALSE(open.empty()) << tag;
            ASSERT_EQ("/" + open.back(), tag);
            open.pop_back();
        } else if (tag.back() != '/' && tag[0] != '!' && name != "meta" && name != "input") {
            open.push_back(name);
        }
    }
    EXPECT_TRUE(open.empty());
}

TEST(Report, ComparesTwoRuns) {
    std::vector<RunData> runs = {sample_run("bf16", 600), sample_run("fp8-lm", 600, 1.004)};
    runs[0].config = "[train]\nsteps = 600\nrecipe = \"bf16\"\n[other]\nx = 1\n";
    runs[1].config = "[train]\nsteps = 600\nrecipe = \"fp8-lm\"\n[more]\nx = 1\n";
    const std::string page = render_report(runs);
    expect_well_formed(page);
    EXPECT_NE(page.find("<h1>bf16 and fp8-lm</h1>"), std::string::npos);
    EXPECT_NE(page.find("0.40 % above bf16, at 1.00 times its tokens/s."), std::string::npos);
    EXPECT_NE(page.find("Loss relative to bf16"), std::string::npos);
    EXPECT_NE(page.find("+0.40 %"), std::string::npos);
    // Five views of the loss and four charts, each with words for those who do not see it.
    EXPECT_EQ(count(page, "<svg class='chart'"), 9u);
    EXPECT_EQ(count(page, "<desc id="), 9u);
    EXPECT_EQ(count(page, ">tokens</text>"), 1u);
    EXPECT_EQ(count(page, ">training time, min</text>"), 1u);
    EXPECT_EQ(count(page, "<h2>Memory plan"), 0u);
    EXPECT_EQ(count(page, "<h2>Samples"), 0u);
    EXPECT_NE(page.find("recipe = &quot;fp8-lm&quot;</mark>"), std::string::npos);
    EXPECT_NE(page.find("\nsteps = 600\n"), std::string::npos);
    EXPECT_NE(page.find("<mark>x = 1</mark>"), std::string::npos);  // under another table
    EXPECT_EQ(page, render_report(runs));
}

TEST(Report, IsCompleteInItself) {
    const std::string page = render_report(std::vector{sample_run("bf16", 100)});
    for (const char* reference : {"<link", "src=", "@import", "url(http", "https:", "fetch("}) {
        EXPECT_EQ(page.find(reference), std::string::npos) << reference;
    }
    EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos);
}

TEST(Report, EscapesWhateverARunSays) {
    const std::string evil = "</script><script>alert('1')</script>\"&";
    RunData run = sample_run(evil, 60), other = sample_run(evil, 60);
    run.info.model = run.info.recipe = run.config = run.note = other.config = evil;
    for (StepMetrics& step : run.steps) step.extra = {{evil, 1.0}};
    const std::string page = render_report(std::vector{run, other});
    expect_well_formed(page);
    EXPECT_EQ(count(page, "<script>"), 1u);
    EXPECT_EQ(count(page, "</script>"), 1u);
    EXPECT_EQ(page.find("alert('"), std::string::npos);
    // The names are equal, so the second is numbered.
    EXPECT_NE(page.find("&quot;&amp; (2)</li>"), std::string::npos);
}

TEST(Report, AHundredThousandStepsStaySmall) {
    std::vector<RunData> runs;
    for (const char* name : {"a", "b", "c", "d"}) runs.push_back(sample_run(name, 100000));
    const std::string page = render_report(runs);
    EXPECT_LT(page.size(), 1000000u);
    expect_well_formed(page);
}

TEST(Report, ShowsRunsOfAnyLengthAndHealth) {
    for (const std::int64_t steps : {1, 2, 3, 49, 50, 51}) {
        const std::string page = render_report(std::vector{sample_run("a", steps)});
        expect_well_formed(page);
        EXPECT_EQ(page.find("nan"), std::string::npos) << steps;
    }
    RunData dead = sample_run("dead", 200);
    for (std::size_t i = 100; i < 200; ++i) {
        dead.steps[i].loss = std::nan("");
        dead.steps[i].grad_norm = INFINITY;
        dead.steps[i].held_out_loss = std::nan("");
    }
    const std::string page = render_report(std::vector{dead, sample_run("alive", 300)});
    expect_well_formed(page);
    EXPECT_GE(count(page, "class='bad'"), 3u);
    EXPECT_EQ(std::regex_search(page, std::regex("(d|x|y|cx|cy)='[^']*(nan|inf)")), false);

    for (StepMetrics& step : dead.steps) step.loss = step.grad_norm = step.lr = std::nan("");
    expect_well_formed(render_report(std::vector{dead}));
    RunData zero = sample_run("zero", 10);
    for (StepMetrics& step : zero.steps) {
        step.loss = step.grad_norm = step.lr = step.tokens_per_s = step.memory_gb = 0;
    }
    expect_well_formed(render_report(std::vector{zero, zero}));
}

TEST(Report, ManyRunsGetATableInsteadOfSentences) {
    std::vector<RunData> runs;
    for (int i = 0; i < 12; ++i) runs.push_back(sample_run("run" + std::to_string(i), 300));
    const std::string page = render_report(runs);
    expect_well_formed(page);
    EXPECT_NE(page.find("<h1>run0 and 11 more runs</h1>"), std::string::npos);
    EXPECT_EQ(page.find("class='finding'"), std::string::npos);
    EXPECT_NE(page.find("class='line c3 d1' data-name='run11'"), std::string::npos);
}

TEST(Report, ShowsFurtherNumbersUpToALimit) {
    RunData run = sample_run("a", 30);
    for (StepMetrics& step : run.steps) {
        for (int i = 0; i < 20; ++i) step.extra.emplace_back("amax." + std::to_string(i), i);
    }
    const std::string page = render_report(std::vector{run});
    EXPECT_NE(page.find("<summary>20 more numbers in metrics.jsonl</summary>"), std::string::npos);
    EXPECT_NE(page.find("The first 12 are shown."), std::string::npos);
    EXPECT_EQ(count(page, "<figcaption>amax."), 12u);
}

// Numbers that only some steps have, as measured steps do.
TEST(Report, ShowsNumbersOfSomeSteps) {
    RunData run = sample_run("a", 30);
    run.steps[9].extra = {{"quant.flushed_max", 0.5}};
    const std::string page = render_report(std::vector{run});
    EXPECT_NE(page.find("<summary>1 more number in metrics.jsonl</summary>"), std::string::npos);
}

TEST(Report, ShowsHeatMapsOfCasts) {
    RunData run = sample_run("a", 200);
    for (const std::int64_t step : {1, 100, 200}) run.casts.push_back(sample_casts(step));
    std::string page = render_report(std::vector{run});
    expect_well_formed(page);
    EXPECT_NE(page.find("<h2>Casts to 8 bits</h2>"), std::string::npos);
    // Five numbers, five roles.
    EXPECT_EQ(count(page, "<svg class='heat'"), 25u);
    EXPECT_EQ(count(page, ">mlp.up_proj</text>"), 25u);
    EXPECT_EQ(count(page, ">step 1</text>"), 25u * 7);
    EXPECT_EQ(page.find("nan"), std::string::npos);

    for (CastStep& step : run.casts) {
        for (TensorCast& t : step.tensors) t.stats.saturated = 0;
    }
    run.casts[1].tensors[0].stats.amax = INFINITY;
    page = render_report(std::vector{run});
    expect_well_formed(page);
    EXPECT_EQ(count(page, "<svg class='heat'"), 20u);
    EXPECT_NE(page.find("Saturated values: none"), std::string::npos);
    EXPECT_EQ(count(page, "<path class='hx'"), 1u);
    EXPECT_EQ(page.find("inf "), std::string::npos);

    // Two runs, of which one has no casts: folded away, under the run's name.
    page = render_report(std::vector{sample_run("plain", 200), run});
    expect_well_formed(page);
    EXPECT_NE(page.find("<h2>Casts to 8 bits: a</h2>"), std::string::npos);
    EXPECT_EQ(count(page, "<details open>"), 0u);
    EXPECT_EQ(count(render_report(std::vector{sample_run("plain", 200)}), "8 bits"), 0u);
}

TEST(Report, ShowsTheNumbersOfLayers) {
    RunData run = sample_run("a", 30);
    for (const std::size_t at : {0u, 9u, 19u}) {
        for (const char* layer : {".0", ".1"}) {
            for (const char* name : {"swiglu.cos_p50", "swiglu.norm_ratio", "swiglu.amax",
                                     "swiglu.sig_min", "adam.v_flush_frac"}) {
                run.steps[at].extra.emplace_back(std::string(name) + layer, 0.25);
            }
        }
    }
    run.steps[9].extra.emplace_back("swiglu.other.0", 1);
    std::string page = render_report(std::vector{run});
    expect_well_formed(page);
    EXPECT_NE(page.find("<h2>Feed-forward layers</h2>"), std::string::npos);
    EXPECT_EQ(count(page, "<svg class='heat'"), 4u);
    EXPECT_EQ(count(page, ">step 1</text>"), 5u);
    EXPECT_NE(page.find("The largest: 2^-2."), std::string::npos);
    EXPECT_NE(page.find("<summary>1 more number in metrics.jsonl</summary>"), std::string::npos);

    page = render_report(std::vector{sample_run("plain", 30), run});
    expect_well_formed(page);
    EXPECT_NE(page.find("<h2>Feed-forward layers: a</h2>"), std::string::npos);
    EXPECT_EQ(page.find("<h2>Feed-forward layers: plain</h2>"), std::string::npos);
}

TEST(Report, HeatMapsOfALargeModelStaySmall) {
    RunData run = sample_run("a", 20000);
    for (std::int64_t step = 100; step <= 20000; step += 100) {
        run.casts.push_back(sample_casts(step, 30));
    }
    const std::string page = render_report(std::vector{run});
    expect_well_formed(page);
    EXPECT_LT(page.size(), 1500000u);
    EXPECT_GT(count(page, "<path class='h"), 500u);
}

TEST(Report, ShowsTheMemoryPlan) {
    RunData a = sample_run("a", 30), b = sample_run("b", 30);
    a.info.memory = {{"state: weights", 4000000}, {"activations", 1000000}};
    b.info.memory = {{"state: weights", 2000000}, {"<scratch>", 0}};
    const std::string page = render_report(std::vector{a, b, sample_run("unknown", 30)});
    expect_well_formed(page);
    for (const char* part :
         {"<h2>Memory plan</h2>",
          "<th scope='row'>state: weights</th><td>4.00 MB<span class='bar "
          "c0' style='width: 100.0%'></span></td><td>2.00 MB<span class='bar c1' style='width: "
          "50.0%'></span></td><td>–",
          "<th scope='row'>&lt;scratch&gt;</th>",
          "<th scope='row'>total</th><td>5.00 MB</td><td>2.00 MB</td><td>–</td>"}) {
        EXPECT_NE(page.find(part), std::string::npos) << part;
    }
}

TEST(Report, ShowsSamples) {
    RunData a = sample_run("a", 30);
    a.sample = "It was <b>\n\"so\"";
    const std::string page = render_report(std::vector{a, sample_run("none", 30)});
    expect_well_formed(page);
    EXPECT_NE(page.find("<pre class='sample'>It was &lt;b&gt;\n&quot;so&quot;</pre>"),
              std::string::npos);
    EXPECT_EQ(count(page, "<pre class='sample'>"), 1u);
}

TEST(Report, TrainingTimeIsThatOfTheSteps) {
    RunData run = sample_run("a", 3);
    for (StepMetrics& step : run.steps) step.tokens_per_s = 1024;  // two seconds a step
    run.steps[2].time_s += 1e6;                                    // a pause
    EXPECT_EQ(training_time(run), (std::vector<double>{2, 4, 6}));
    run.steps.erase(run.steps.begin() + 1);
    EXPECT_EQ(training_time(run), (std::vector<double>{2, 6}));
    run.steps[0].tokens_per_s = 0;
    run.steps[1].tokens_per_s = std::nan("");
    EXPECT_EQ(training_time(run), (std::vector<double>{0, 0}));

    // In the unit that suits the longest run.
    RunData slow = sample_run("slow", 3);
    for (StepMetrics& step : slow.steps) step.tokens_per_s = 0.5;
    EXPECT_NE(render_report(std::vector{run, slow}).find("training time, h"), std::string::npos);
}

TEST(Report, NeedsRunsWithSteps) {
    EXPECT_EQ(error_of([] { render_report({}); }),
              "report: expected at least one run, got none\n"
              "  Give the folders of the runs to show.");
    RunData empty = sample_run("a", 0);
    EXPECT_EQ(error_of([&] { render_report(std::vector{empty}); }), "run a: no step was recorded");
}

TEST(Report, WritesTheFile) {
    const TempFolder folder;
    const std::vector<RunData> runs = {sample_run("a", 5)};
    write_report(folder.path() / "report.html", runs);
    EXPECT_EQ(read_file(folder.path() / "report.html"), render_report(runs));
    EXPECT_THROW(write_report("/nowhere/report.html", runs), Error);
}

}  // namespace
}  // namespace octavo
