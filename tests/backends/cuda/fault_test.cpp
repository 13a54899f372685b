// Kernels that read where there is nothing, in a process of their own, which is lost for CUDA
// afterwards: the error names the step, and everything is torn down without another word.
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "backends/cuda/cuda.h"
#include "graph/builder.h"
#include "runtime/program.h"
#include "test_backend.h"

namespace octavo {
namespace {

// A run of all tests for the GPU counts as skipped without one.
#define SKIP_WITHOUT_GPU()                              \
    if (const auto why_not = why_no_cuda()) {           \
        if (test::on_cuda()) test::make_test_backend(); \
        GTEST_SKIP() << *why_not;                       \
    }

constexpr std::int64_t kRows = 64, kColumns = 32;

// 20 ops before and 20 after rows that are taken from a table by number.
Graph lookup_among_others() {
    Graph g;
    Builder b(g);
    const Value table = b.input("table", {Dtype::f32, {kRows, kColumns}});
    const Value rows = b.input("rows", {Dtype::i32, {kRows}});
    Value x = table;
    const auto silus = [&](const char* name) {
        for (int i = 0; i < 20; ++i) {
            const auto scope = b.scope(fmt::format("{}.{}", name, i));
            x = b.one(Silu{}, {x});
        }
    };
    silus("before");
    {
        const auto scope = b.scope("the.lookup");
        x = b.one(Embedding{}, {x, rows});
    }
    silus("after");
    b.output("y", x);
    return g;
}

struct Case {
    const char* what;
    bool trace;
    int good_runs;  // before the bad one: the first is launched, the second is recorded
};

std::ostream& operator<<(std::ostream& os, const Case& c) { return os << c.what; }

// Exit code 1 and the message on stderr, as the program does it.
[[noreturn]] void run_into_fault(const Case& c) {
    int code = 0;
    try {
        const auto backend = make_cuda_backend({.trace = c.trace});
        Program program(*backend);
        program.add("micro", lookup_among_others());
        program.allocate(backend->available_bytes());
        const std::vector<float> table(kRows * kColumns, 1.0f);
        std::vector<float> y(table.size());
        std::vector<std::int32_t> rows(kRows);
        std::iota(rows.begin(), rows.end(), 0);
        program.write_input("micro", "table", table.data());
        program.write_input("micro", "rows", rows.data());
        for (int i = 0; i < c.good_runs; ++i) program.run("micro");
        rows[kRows / 2] = std::numeric_limits<std::int32_t>::max();
        program.write_input("micro", "rows", rows.data());
        program.run("micro");
        program.read_output("micro", "y", y.data());
    } catch (const DeviceFault& fault) {
        // Program and backend are gone by now.
        std::fputs(fault.what(), stderr);
        code = 1;
    }
    std::exit(code);
}

class Fault : public testing::TestWithParam<Case> {};

TEST_P(Fault, NamesTheStep) {
    SKIP_WITHOUT_GPU();
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const Case& c = GetParam();
    EXPECT_EXIT(run_into_fault(c), testing::ExitedWithCode(1),
                c.trace ? "cudaErrorIllegalAddress.*, in plan 'micro' at embedding 'the.lookup' "
                          "\\(forward, embedding\\)"
                        : "cudaErrorIllegalAddress.*, in plan 'micro' at one of 8 steps:.*"
                          "embedding 'the.lookup' \\(forward, embedding\\)");
}

INSTANTIATE_TEST_SUITE_P(Runs, Fault,
                         testing::Values(Case{"Launched", false, 0}, Case{"Recorded", false, 1},
                                         Case{"Replayed", false, 3},
                                         Case{"LaunchedWithTrace", true, 0},
                                         Case{"ReplayedWithTrace", true, 3}),
                         [](const auto& of) { return std::string(of.param.what); });

// As whoever launches something after the fault hears of it. Not while it strikes: driver 580
// itself crashes in cuGraphLaunch when a fault meets hundreds of waiting launches.
[[noreturn]] void launch_after_fault() {
    int code = 0;
    try {
        const auto backend = make_cuda_backend();
        Program program(*backend);
        program.add("micro", lookup_among_others());
        program.allocate(backend->available_bytes());
        const std::vector<std::int32_t> rows(kRows, std::numeric_limits<std::int32_t>::max());
        program.write_input("micro", "rows", rows.data());
        for (int i = 0; i < 3; ++i) program.run("micro");
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        program.run("micro");
    } catch (const DeviceFault& fault) {
        std::fputs(fault.what(), stderr);
        code = 1;
    }
    std::exit(code);
}

TEST(FaultLater, IsNotBlamedOnTheNextLaunch) {
    SKIP_WITHOUT_GPU();
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(launch_after_fault(), testing::ExitedWithCode(1),
                "in plan 'micro' at one of 8 steps:.*embedding 'the.lookup'");
}

}  // namespace
}  // namespace octavo
