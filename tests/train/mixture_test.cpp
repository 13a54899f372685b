// Mixtures of experts as models that train.
#include "models/experts.h"
#include "models/weights.h"
#include "train/checkpoint.h"
#include "train/golden.h"
#include "train/tiny.h"

namespace octavo {
namespace {

Architecture mixture(std::int64_t hidden = 32, std::int64_t width = 48) {
    Architecture a = test::tiny(Family::qwen3_moe);
    a.hidden_size = hidden;
    a.intermediate_size = width;
    a.experts = {.count = 4, .per_token = 2, .intermediate_size = width};
    return a;
}

StepOptions options(const std::string& recipe, const Architecture& arch) {
    StepOptions o = test::tiny_options(Family::qwen3_moe, recipe);
    o.architecture = arch;
    return o;
}

// Outputs of a forward and backward pass whose experts are aligned to `rows` rows, and which starts
// from initial weights.
std::map<std::string, std::vector<float>> gradients(const std::string& recipe, std::int64_t rows) {
    const auto backend = test::make_test_backend();
    StepOptions o = options(recipe, mixture());
    o.recipe.states = {};
    o.target = backend->target();
    o.target.expert_rows = rows;
    const Graph graph = inspection_graph(o, /*gradients=*/true);
    Program program(*backend);
    program.add("run", graph);
    program.add("refresh", refresh_graph(o.recipe, graph));
    for (const Parameter& p : parameters(o.architecture)) {
        program.state().declare(p.name, {Dtype::f32, p.shape});
    }
    program.allocate(test::kNoLimit);
    initialise_scales(program.state());
    for (const Parameter& p : parameters(o.architecture)) {
        write_values(program.state(), p.name, initial_values(p, 1));
    }
    program.run("refresh");
    const test::TokenBatch batch = test::random_batch(o, 3);
    const float weight = 1.0f / static_cast<float>(batch.ids.size());
    program.write_input("run", "ids", batch.ids.data());
    program.write_input("run", "targets", batch.targets.data());
    program.write_input("run", "weight", &weight);
    program.run("run");
    std::map<std::string, std::vector<float>> found;
    for (const Output& out : graph.outputs()) {
        if (graph.type(out.value).dtype != Dtype::f32) continue;
        std::vector<float>& values = found[out.name];
        values.resize(static_cast<std::size_t>(graph.type(out.value).shape.elements()));
        program.read_output("run", out.name, values.data());
    }
    return found;
}

TEST(Mixture, PaddingChangesNothing) {
    for (const std::string recipe : {"fp32", "bf16", "fp8-lm", "smooth-swiglu"}) {
        SCOPED_TRACE(recipe);
        const auto want = gradients(recipe, test::on_cuda() ? 128 : 1);
        EXPECT_GT(want.size(), 20u);
        for (const std::int64_t rows : test::on_cuda() ? std::vector<std::int64_t>{256}
                                                       : std::vector<std::int64_t>{16, 128}) {
            for (const auto& [name, values] : gradients(recipe, rows)) {
                EXPECT_EQ(values, want.at(name)) << name << " at " << rows;
            }
        }
    }
}

TEST(Mixture, OfIdenticalExpertsIsTheDenseModel) {
    Architecture dense = mixture();
    dense.family = Family::qwen3;
    dense.experts = {};
    test::Session one(options("fp32", dense)), many(options("fp32", mixture()));
    const std::int64_t experts = 4;
    for (const Parameter& p : parameters(mixture())) {
        if (!is_expert_stack(p.name, p.shape)) continue;
        std::string name = p.name;
        name.erase(name.find("experts."), 8);
        const std::vector<float> matrix = test::read_f32(one.state(), name);
        std::vector<float> stack;
        for (std::int64_t e = 0; e < experts; ++e) {
            stack.insert(stack.end(), matrix.begin(), matrix.end());
        }
        many.state().write(p.name, stack.data());
    }
    const test::TokenBatch batch = test::random_batch(one.program.options(), 3);
    EXPECT_NEAR(one.micro(batch), many.micro(batch), 1e-5);
    for (const Parameter& p : parameters(mixture())) {
        if (p.router) continue;
        std::string name = p.name;
        std::vector<float> got = test::read_f32(many.state(), gradient_name(p.name));
        if (is_expert_stack(p.name, p.shape)) {
            name.erase(name.find("experts."), 8);
            const std::size_t n = got.size() / experts;
            for (std::size_t i = n; i < got.size(); ++i) got[i % n] += got[i];
            got.resize(n);
        }
        EXPECT_LE(test::relative_error(got, test::read_f32(one.state(), gradient_name(name))), 1e-4)
            << name;
    }
    // Every expert is as good as any other: the router has nothing to learn.
    for (const float g : test::read_f32(many.state(), "grad/model.layers.0.mlp.gate.weight")) {
        EXPECT_NEAR(g, 0, 1e-6);
    }
}

TEST(Mixture, EveryRecipeTrains) {
    for (const std::string recipe :
         {"fp32", "bf16", "fp8-lm", "moss", "blockwise", "smooth-swiglu"}) {
        SCOPED_TRACE(recipe);
        StepOptions o = options(recipe, mixture(128, 128));
        o.router_balance = 0.01;
        o.router_z = 0.001;
        test::Session s(o);
        const test::TokenBatch batch = test::random_batch(o, 3);
        const float first = s.micro(batch);
        s.program.update(3e-3, 1);
        for (int step = 2; step <= 12; ++step) {
            s.micro(batch);
            s.program.update(3e-3, step);
        }
        EXPECT_LT(s.micro(batch), first - 0.5f);
        const double load = s.program.expert_load().value();
        EXPECT_GE(load, 1);
        EXPECT_LE(load, 4);
        EXPECT_GT(s.program.router_loss().value(), 0.01);
    }
}

TEST(Mixture, RoutersStayInF32) {
    for (const std::string recipe : {"bf16", "fp8-lm", "moss", "blockwise", "smooth-swiglu"}) {
        SCOPED_TRACE(recipe);
        const Graph g = micro_graph(options(recipe, mixture(128, 128)), false);
        int routers = 0;
        for (const Node& n : g.nodes()) {
            const auto* load = std::get_if<Load>(&n.op);
            if (load && load->name.ends_with("mlp.gate.weight")) {
                EXPECT_EQ(load->name.find('/'), std::string::npos) << load->name;
                EXPECT_EQ(load->type.dtype, Dtype::f32);
            }
            if (!std::holds_alternative<RouteTopK>(n.op)) continue;
            EXPECT_EQ(g.type(n.in[0]).dtype, Dtype::f32);
            ++routers;
        }
        EXPECT_EQ(routers, 2);
    }
}

// The gradient of the whole loss has both terms; the loss that is reported is the model's.
TEST(Mixture, AuxiliaryLossesReachTheRouters) {
    StepOptions with = options("fp32", mixture());
    with.router_balance = 1;
    test::Session plain(options("fp32", mixture())), balanced(with);
    const test::TokenBatch batch = test::random_batch(with, 3);
    EXPECT_EQ(plain.micro(batch), balanced.micro(batch));
    EXPECT_FALSE(plain.program.router_loss());
    // f sums to k, so even loads cost k.
    EXPECT_GE(balanced.program.router_loss().value(), 1.99);
    const std::string router = "grad/model.layers.1.mlp.gate.weight";
    EXPECT_GT(test::relative_error(test::read_f32(balanced.state(), router),
                                   test::read_f32(plain.state(), router)),
              1e-3);
}

// A checkpoint is a Hugging Face folder with a tensor for each expert, and comes back as it was.
TEST(Mixture, CheckpointsHaveExpertsByName) {
    for (const std::string recipe : {"bf16", "smooth-swiglu"}) {
        SCOPED_TRACE(recipe);
        const test::TemporaryFolder folder;
        test::Session a(options(recipe, mixture())), b(options(recipe, mixture()));
        const test::TokenBatch batch = test::random_batch(a.program.options(), 3);
        a.micro(batch);
        a.program.update(3e-3, 1);
        CheckpointInfo info;
        info.step = 1;
        const auto saved = save_checkpoint(folder.path(), a.state(), info, {});
        load_checkpoint(saved, b.state());
        for (const State::Entry& e : a.state().entries()) {
            if (!is_saved(e.name)) continue;
            EXPECT_EQ(test::read_all(a.state(), e.name), test::read_all(b.state(), e.name))
                << e.name;
        }
        const SafetensorsModel model(saved);
        for (const Parameter& p : parameters(mixture())) {
            for (const StoredParameter& s : stored_parameters(p.name, p.shape)) {
                EXPECT_EQ(model.at(s.name).shape, s.shape) << s.name;
            }
        }
        EXPECT_FALSE(model.find("model.layers.0.mlp.experts.up_proj.weight"));
        // Read as any other folder, the same masters.
        test::Session c(options(recipe, mixture()));
        load_weights(saved, c.state());
        for (const Parameter& p : parameters(mixture())) {
            EXPECT_EQ(test::read_all(a.state(), p.name), test::read_all(c.state(), p.name))
                << p.name;
        }
    }
}

TEST(Mixture, BlocksNeedWholeExperts) {
    try {
        micro_graph(options("blockwise", mixture(128, 64)), false);
        FAIL() << "accepted";
    } catch (const Error& e) {
        EXPECT_NE(e.message().find("features in multiples of 128"), std::string::npos)
            << e.message();
    }
}

}  // namespace
}  // namespace octavo
