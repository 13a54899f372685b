#include "runtime/plan.h"

#include "io/scratch.h"
#include "runtime/run_graph.h"
#include "train/far_backend.h"

namespace octavo {
namespace {

Graph product(Dtype dtype) {
    Graph g;
    Builder b(g);
    const auto scope = b.scope("layers.0.up_proj");
    b.output("y", b.linear(b.input("x", {dtype, {4, 8}}), b.input("w", {dtype, {3, 8}})));
    return g;
}

TEST(Plan, ListsKernelsAndRefusals) {
    const Plan plan(product(Dtype::f64), test::backend());
    const Choice& choice = plan.choice(2);
    ASSERT_FALSE(choice.refusals.empty()) << "faster kernels than the reference take f64 now";
    const std::string text = to_text(plan);
    EXPECT_TRUE(contains(text, "matmul "));
    EXPECT_TRUE(contains(text, std::string(choice.kernel)));
    EXPECT_TRUE(contains(text,
                         "matmul(f64[4, 8], f64[3, 8]) trans_b fprop -> f64[4, 3]  # "
                         "layers.0.up_proj\n"));
    for (const std::string& refusal : choice.refusals) {
        EXPECT_TRUE(contains(text, "    not " + refusal + "\n"));
    }
    // Inputs have no kernel and no line.
    EXPECT_EQ(std::ranges::count(text, '\n'), 1 + std::ssize(choice.refusals));
}

TEST(Plan, NamesTheNodeThatNoKernelTakes) {
    const FarBackend backend;
    EXPECT_EQ(error_of([&] { Plan(product(Dtype::f32), backend); }),
              "matmul 'layers.0.up_proj': no kernel of backend far takes matmul(f32[4, 8], f32[3, "
              "8]).\n  None is registered.");
}

TEST(Plan, SaysWhyEachKernelRefused) {
    class Picky final : public FarBackend {
      public:
        Picky() {
            const auto no = [](const NodeView&) -> Refusal { return "wants 16 rows"; };
            registry_.add<Matmul>({"picky", no, nullptr});
            registry_.add<Matmul>({"choosy", no, nullptr});
        }
        const KernelRegistry& kernels() const override { return registry_; }

      private:
        KernelRegistry registry_;
    };
    const Picky backend;
    EXPECT_TRUE(contains(error_of([&] { Plan(product(Dtype::f32), backend); }),
                         "picky: wants 16 rows; choosy: wants 16 rows"));
}

TEST(Plan, ObserversSeeEveryKernelWithItsResults) {
    Graph g;
    Builder b(g);
    const Value x = b.input("x", {Dtype::f32, {4}});
    const Value a = b.one(Silu{}, {x}), c = b.one(Silu{}, {b.reshape(a, {2, 2})});
    b.output("c", c);
    Program program(test::backend());
    program.add("test", g);
    program.allocate(std::int64_t{1} << 30);
    const float values[] = {1, 2, 3, 4};
    program.write_input("test", "x", values);
    std::vector<std::int32_t> seen;
    std::vector<float> firsts;
    Plan& plan = program.plan("test");
    plan.run([&](std::int32_t i) {
        seen.push_back(i);
        firsts.push_back(plan.tensor(plan.graph().node(i).out[0]).as<float>()[0]);
    });
    EXPECT_EQ(seen, (std::vector<std::int32_t>{1, 3}));  // not the input, not the view
    EXPECT_FLOAT_EQ(firsts[0], 0.7310586f);
    EXPECT_FLOAT_EQ(firsts[1], 0.49349201f);
}

TEST(Plan, InputsAndOutputsHaveNames) {
    Program program(test::backend());
    program.add("test", product(Dtype::f32));
    program.allocate(std::int64_t{1} << 30);
    const Plan& plan = program.plan("test");
    EXPECT_EQ(plan.input("w").type, (Type{Dtype::f32, {3, 8}}));
    EXPECT_EQ(plan.output("y").type, (Type{Dtype::f32, {4, 3}}));
    EXPECT_EQ(error_of([&] { plan.input("ids"); }), "the plan has no input 'ids'");
    EXPECT_EQ(error_of([&] { plan.output("loss"); }), "the plan has no output 'loss'");
}

}  // namespace
}  // namespace octavo
