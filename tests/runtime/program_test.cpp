#include "runtime/program.h"

#include "io/scratch.h"
#include "runtime/run_graph.h"
#include "train/far_backend.h"

namespace octavo {
namespace {

// y = silu(silu(x)) w, and w moves.
Graph step(std::int64_t n) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::f32, {n}}), w = b.load("w", {Dtype::f32, {n}});
    const Value y = b.mul(b.one(Silu{}, {b.one(Silu{}, {x})}), w);
    b.output("y", y);
    b.store("w", b.add(w, x));
    return g;
}

TEST(Program, WeighsItselfBeforeItAllocates) {
    Program program(test::backend());
    program.add("small", [] {
        Graph g;
        Builder b(g);
        b.output("z", b.one(Silu{}, {b.input("x", {Dtype::f32, {10}})}));
        return g;
    }());
    program.add("large", step(1000));
    const std::string table = to_text(program.memory());
    EXPECT_TRUE(contains(table, "state: weight"));
    EXPECT_TRUE(contains(table, "master weights"));
    EXPECT_TRUE(contains(table, "largest plan: large"));
    EXPECT_TRUE(contains(table, "total"));
    std::int64_t sum = 0;
    for (const MemoryRow& row : program.memory()) sum += row.bytes;
    EXPECT_EQ(sum, program.total_bytes());
    EXPECT_GE(program.total_bytes(), program.state().bytes() + 4096 + 256);
}

TEST(Program, RefusesWithTheTableAndWhatToLower) {
    Program program(test::backend());
    program.add("step", step(1000));
    const std::string error = error_of([&] { program.allocate(program.total_bytes() - 1); });
    EXPECT_TRUE(contains(error, "the plan needs 0.00 GB of memory, 0.00 GB are available\n"));
    EXPECT_TRUE(contains(error, to_text(program.memory())));
    EXPECT_TRUE(contains(error,
                         "  Lower train.batch or train.seq, choose runtime.recompute = "
                         "\"block\", or a smaller model."));
    program.allocate(program.total_bytes());
}

TEST(Program, SaysWhoHasTheRestOfTheMemory) {
    class Shared final : public FarBackend {
      public:
        const KernelRegistry& kernels() const override { return test::backend().kernels(); }
        std::string memory_note() const override { return "; others have the rest"; }
    };
    Shared backend;
    Program program(backend);
    program.add("step", step(1000));
    EXPECT_TRUE(contains(error_of([&] { program.allocate(0); }),
                         "GB of memory, 0.00 GB are available; others have the rest\n"));
}

TEST(Program, PlansShareStateAndArena) {
    Program program(test::backend());
    program.add("a", step(4));
    program.add("b", step(4));
    program.allocate(std::int64_t{1} << 30);
    const float w[] = {1, 1, 1, 1}, xa[] = {1, 2, 3, 4}, xb[] = {10, 20, 30, 40};
    program.state().write("w", w);
    program.write_input("a", "x", xa);
    program.write_input("b", "x", xb);
    program.run("a");
    program.run("b");
    float got[4];
    program.state().read("w", got);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got[i], 1 + xa[i] + xb[i]);
    program.read_output("b", "y", got);
    EXPECT_NEAR(got[3], 40.0f * (1 + 4), 1e-4);  // silu(40) = 40; w before this run
}

TEST(Program, StateOutlivesItsPlans) {
    Program program(test::backend());
    program.add("small", step(4));
    program.allocate(std::int64_t{1} << 30);
    const float w[] = {1, 2, 3, 4}, x[] = {10, 20, 30, 40};
    program.state().write("w", w);
    program.remove_plans();
    EXPECT_FALSE(program.has("small"));
    // Larger than before, and over the same tensors.
    program.add("large", [] {
        Graph g = step(4);
        Builder b(g);
        b.output("z", b.one(Silu{}, {b.input("more", {Dtype::f32, {100'000}})}));
        return g;
    }());
    EXPECT_EQ(error_of([&] {
                  Graph g;
                  Builder b(g);
                  b.output("v", b.load("v", {Dtype::f32, {4}}));
                  program.add("other", g);
              }),
              "state 'v' was declared after memory was allocated");
    EXPECT_TRUE(
        contains(error_of([&] { program.allocate(program.total_bytes() - 1); }), "the plan needs"));
    // The memory of the first plans stays.
    EXPECT_TRUE(
        contains(error_of([&] { program.allocate(program.total_bytes()); }), "the plan needs"));
    program.allocate(std::int64_t{1} << 30);
    const std::vector<float> more(100'000, 1);
    program.write_input("large", "more", more.data());
    program.write_input("large", "x", x);
    program.run("large");
    float got[4];
    program.state().read("w", got);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got[i], w[i] + x[i]);

    // And back, in the memory of the first.
    program.remove_plans();
    program.add("small", step(4));
    program.allocate(program.total_bytes());
    program.write_input("small", "x", x);
    program.run("small");
    program.state().read("w", got);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got[i], w[i] + x[i] + x[i]);
}

TEST(Program, NamesPlansAndStateThatClash) {
    Program program(test::backend());
    program.add("step", step(4));
    EXPECT_EQ(error_of([&] { program.add("step", step(4)); }), "there is a plan 'step' already");
    EXPECT_EQ(error_of([&] { program.add("wider", step(5)); }),
              "state 'w' is f32[4] in one graph and f32[5] in another");
    EXPECT_EQ(error_of([&] { program.run("eval"); }), "there is no plan 'eval'");
    EXPECT_TRUE(program.has("step"));
    EXPECT_FALSE(program.has("eval"));
}

}  // namespace
}  // namespace octavo
