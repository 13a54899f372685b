#include "report/console.h"

#include <limits>

#include "report/text.h"
#include "sample.h"

namespace octavo {
namespace {

constexpr ConsoleStyle kPlain{.color = false, .live = false};
constexpr ConsoleStyle kColor{.color = true, .live = true};

std::string without_escapes(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\x1b')
            i = text.find('m', i);
        else
            out += text[i];
    }
    return out;
}

TEST(Console, ColorsAndLiveLinesNeedATerminal) {
    EXPECT_TRUE(console_style(true, "", "xterm").color);
    EXPECT_TRUE(console_style(true, "", "xterm").live);
    EXPECT_FALSE(console_style(true, "1", "xterm").color);
    EXPECT_TRUE(console_style(true, "1", "xterm").live);
    EXPECT_FALSE(console_style(false, "", "xterm").color);
    EXPECT_FALSE(console_style(false, "", "xterm").live);
    EXPECT_FALSE(console_style(true, "", "dumb").live);
}

TEST(Console, OneAlignedLineAStep) {
    StepMetrics m = sample_step(100);
    m.loss = 2.34561;
    m.held_out_loss = 2.4012;
    m.grad_norm = 0.812;
    m.tokens_per_s = 61234;
    EXPECT_EQ(
        header_line(5000, kPlain),
        "     step      loss  held-out  grad norm        lr    tok/s  bound    memory      ETA");
    EXPECT_EQ(
        step_line(m, 5000, 723, kPlain),
        " 100/5000    2.3456    2.4012      0.812  3.00e-04    61.2k  45.3%   1.24 GB   12m03s");
    m.held_out_loss.reset();
    m.share_of_peak = 0;
    EXPECT_EQ(
        step_line(m, 5000, {}, kPlain),
        " 100/5000    2.3456                0.812  3.00e-04    61.2k      -   1.24 GB        -");
}

TEST(Console, ColumnsHoldForAnyNumbers) {
    for (const std::int64_t total : {1ll, 600ll, 5000ll, 12345678ll}) {
        const std::size_t width = header_line(total, kPlain).size();
        for (const double size : {0.0, 1e-9, 0.5, 999.96, 1234.5, 9.9e7, 1e30, -1e30,
                                  std::numeric_limits<double>::infinity(), std::nan("")}) {
            StepMetrics m = sample_step(total);
            m.loss = m.grad_norm = m.tokens_per_s = size;
            m.held_out_loss = size;
            m.lr = std::abs(size) < 1 ? size : 0.1;
            for (const ConsoleStyle& style : {kPlain, kColor}) {
                const std::string line = step_line(m, total, 1e5, style);
                EXPECT_EQ(without_escapes(line).size(), width) << line;
            }
        }
    }
}

TEST(Console, ANonFiniteLossIsRed) {
    StepMetrics m = sample_step(1);
    m.loss = std::nan("");
    EXPECT_NE(step_line(m, 10, {}, kColor).find("\x1b[1;31m      nan\x1b[0m"), std::string::npos);
    EXPECT_EQ(step_line(m, 10, {}, kPlain).find('\x1b'), std::string::npos);
}

TEST(Console, ProgressLineFitsTheTerminal) {
    EXPECT_EQ(progress_line("evaluating", 13, 25, 80),
              "evaluating [============>           ]  52 %  13/25");
    EXPECT_EQ(progress_line("saving", 0, 4, 80), "saving [>                       ]   0 %  0/4");
    EXPECT_EQ(progress_line("saving", 4, 4, 80), "saving [========================] 100 %  4/4");
    EXPECT_EQ(progress_line("saving", 1, 0, 80), "saving [>                       ]   0 %  1/0");
    for (int width = 0; width < 70; ++width) {
        EXPECT_LE(progress_line("evaluating", 13, 25, width).size(),
                  static_cast<std::size_t>(std::max(0, width - 1)));
    }
}

TEST(Eta, FollowsTheRecentPace) {
    Eta eta;
    EXPECT_FALSE(eta.seconds_until(10));
    eta.add(1, 100);
    EXPECT_FALSE(eta.seconds_until(10));
    eta.add(2, 102);
    eta.add(3, 104);
    EXPECT_DOUBLE_EQ(eta.seconds_until(10).value(), 14);
    for (int step = 4; step <= 300; ++step) eta.add(step, 104 + 0.5 * (step - 3));
    EXPECT_DOUBLE_EQ(eta.seconds_until(400).value(), 50);
    EXPECT_DOUBLE_EQ(eta.seconds_until(300).value(), 0);
}

TEST(Text, Numbers) {
    EXPECT_EQ(format_compact(983), "983");
    EXPECT_EQ(format_compact(61234), "61.2k");
    EXPECT_EQ(format_compact(1.2444e6), "1.24M");
    EXPECT_EQ(format_compact(999.7), "1.00k");
    EXPECT_EQ(format_compact(99.97), "100");
    EXPECT_EQ(format_compact(0), "0");
    EXPECT_EQ(format_bytes(81752064), "81.8 MB");
    EXPECT_EQ(format_bytes(12), "12.0 B");
    EXPECT_EQ(format_count(0), "0");
    EXPECT_EQ(format_count(999), "999");
    EXPECT_EQ(format_count(-1234567), "-1,234,567");
    EXPECT_EQ(format_count(-123), "-123");
    EXPECT_EQ(format_duration(59.4), "59s");
    EXPECT_EQ(format_duration(59.6), "1m00s");
    EXPECT_EQ(format_duration(11220), "3h07m");
    EXPECT_EQ(format_duration(187200), "2d04h");
    EXPECT_EQ(format_duration(std::nan("")), "-");
    EXPECT_EQ(format_percent_change(2.41, 2.40), "+0.42 %");
    EXPECT_EQ(format_percent_change(1, 2), "-50.0 %");
    EXPECT_EQ(format_percent_change(1, 0), "");
    EXPECT_EQ(format_loss(2.34561), "2.3456");
    EXPECT_EQ(format_loss(123456), "1.23e+05");
}

TEST(Text, HtmlEscape) {
    EXPECT_EQ(html_escape("<b a=\"1\" c='2'>&\n\t\x01\x7f\xc3\xa9"),
              "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;\n\t\xc3\xa9");
}

}  // namespace
}  // namespace octavo
