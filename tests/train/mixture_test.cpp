// Mixtures of experts as models that train.
#include <algorithm>
#include <cmath>
#include <map>
#include <span>

#include "base/dtype_traits.h"
#include "base/float8.h"
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

// Five experts of which the last is never chosen: of a and -a, and b and -b, one each is above the
// 0 that it has.
constexpr std::int64_t kIdle = 4;
Architecture with_idle_expert() {
    Architecture a = mixture();
    a.experts.count = kIdle + 1;
    return a;
}
std::vector<float> idle_router(const Parameter& p) {
    std::vector<float> w = initial_values(p, 5);
    const auto row = static_cast<std::size_t>(p.shape.last());
    for (std::size_t i = 0; i < row; ++i) {
        w[row + i] = -w[i];
        w[3 * row + i] = -w[2 * row + i];
        w[kIdle * row + i] = 0;
    }
    return w;
}

StepOptions smooth_channels(bool step_before) {
    StepOptions o = options("smooth-swiglu", mixture());
    o.recipe.smooth->axis = Axis::column;
    o.recipe.smooth->step_before = step_before;
    return o;
}

// Outputs of a forward and backward pass whose experts are aligned to `rows` rows, and which starts
// from initial weights; with `used` in memory where another batch has left its values, of every
// expert.
using Outputs = std::map<std::string, std::vector<float>>;
Outputs gradients(StepOptions o, std::int64_t rows, bool used = false) {
    const auto backend = test::make_test_backend();
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
    // Factors as if there had been a step before.
    for (const State::Entry& e : program.state().entries()) {
        if (!e.name.starts_with("smooth.factor/")) continue;
        std::vector<float> factors(static_cast<std::size_t>(e.type.shape.elements()));
        for (std::size_t i = 0; i < factors.size(); ++i) {
            factors[i] = std::ldexp(1.0f, static_cast<int>(i % 7) - 5);
        }
        program.state().write(e.name, factors.data());
    }
    program.run("refresh");
    const auto run = [&](std::uint64_t seed) {
        const test::TokenBatch batch = test::random_batch(o, seed);
        const float weight = 1.0f / static_cast<float>(batch.ids.size());
        program.write_input("run", "ids", batch.ids.data());
        program.write_input("run", "targets", batch.targets.data());
        program.write_input("run", "weight", &weight);
        program.run("run");
    };
    if (used) run(9);
    for (const Parameter& p : parameters(o.architecture)) {
        if (!p.router || o.architecture.experts.count <= kIdle) continue;
        write_values(program.state(), p.name, idle_router(p));
    }
    run(3);
    Outputs found;
    for (const Output& out : graph.outputs()) {
        if (graph.type(out.value).dtype != Dtype::f32) continue;
        std::vector<float>& values = found[out.name];
        values.resize(static_cast<std::size_t>(graph.type(out.value).shape.elements()));
        program.read_output("run", out.name, values.data());
    }
    return found;
}

void expect_same_with_padding(const StepOptions& o) {
    const Outputs want = gradients(o, test::on_cuda() ? 128 : 1);
    EXPECT_GT(want.size(), 20u);
    for (const std::int64_t rows : test::on_cuda() ? std::vector<std::int64_t>{128, 256}
                                                   : std::vector<std::int64_t>{16, 128}) {
        for (const auto& [name, values] : gradients(o, rows, /*used=*/true)) {
            EXPECT_EQ(values, want.at(name)) << name << " at " << rows;
        }
    }
}

// Neither where rows lie nor what lies in the rows of no token.
TEST(Mixture, PaddingChangesNothing) {
    for (const std::string recipe : {"fp32", "bf16", "fp8-lm", "smooth-swiglu"}) {
        SCOPED_TRACE(recipe);
        expect_same_with_padding(options(recipe, mixture()));
        expect_same_with_padding(options(recipe, with_idle_expert()));
    }
    for (const bool step_before : {false, true}) {
        SCOPED_TRACE(step_before ? "channels of the step before" : "channels");
        StepOptions o = smooth_channels(step_before);
        expect_same_with_padding(o);
        o.architecture = with_idle_expert();
        expect_same_with_padding(o);
    }
}

// The elements of one expert in a stack.
std::span<const float> of_expert(const std::vector<float>& stack, std::int64_t e,
                                 std::int64_t experts) {
    const std::size_t n = stack.size() / static_cast<std::size_t>(experts);
    return std::span(stack).subspan(static_cast<std::size_t>(e) * n, n);
}

// What a step with an expert that no token chose made of the State that was there before.
struct IdleStep {
    float loss, norm;
    std::map<std::string, std::vector<std::byte>> before, after;
    Outputs gradients;  // of the stacks
};

IdleStep idle_step(const StepOptions& o) {
    test::Session s(o);
    // Two steps in which it is chosen, so that there are moments.
    for (int step = 1; step <= 2; ++step) {
        s.micro(test::random_batch(o, static_cast<std::uint64_t>(step)));
        s.program.update(1e-2, step);
    }
    for (const Parameter& p : parameters(o.architecture)) {
        if (p.router) write_values(s.state(), p.name, idle_router(p));
    }
    s.program.refresh();
    IdleStep result{};
    for (const State::Entry& e : s.state().entries()) {
        result.before[e.name] = test::read_all(s.state(), e.name);
    }
    result.loss = s.micro(test::random_batch(o, 3));
    for (const State::Entry& e : s.state().entries()) {
        if (!e.name.starts_with(kExpertCounts)) continue;
        std::vector<std::int32_t> counts(kIdle + 1);
        s.state().read(e.name, counts.data());
        EXPECT_EQ(counts[kIdle], 0) << e.name;
        for (std::size_t i = 0; i < kIdle; ++i) EXPECT_GT(counts[i], 0) << e.name << " " << i;
    }
    for (const Parameter& p : parameters(o.architecture)) {
        if (!is_expert_stack(p.name, p.shape)) continue;
        result.gradients[p.name] = read_values(s.state(), gradient_name(p.name));
    }
    result.norm = s.program.update(1e-2, 3);
    for (const State::Entry& e : s.state().entries()) {
        result.after[e.name] = test::read_all(s.state(), e.name);
    }
    return result;
}

// Its moments decay as under a gradient of zero: the codes of beta m and beta v under the new scale
// of the stack, of which a v above 0 stays above 0.
template <class T>
void expect_decayed(const State::Entry& e, const IdleStep& step, float beta, bool floor) {
    const auto part = [&](const std::vector<std::byte>& bytes) {
        return tensor_at(e.type, const_cast<std::byte*>(bytes.data()));
    };
    const TensorRef before = part(step.before.at(e.name)), after = part(step.after.at(e.name));
    const std::int64_t n = e.type.shape.elements() / (kIdle + 1);
    const float inv_scale = 1.0f / *after.scales();
    std::int64_t wrong = 0, moved = 0, alive = 0;
    for (std::int64_t i = kIdle * n; i < (kIdle + 1) * n; ++i) {
        const float old = to_f32(before.as<T>()[i]) * *before.scales();
        T want(beta * old * inv_scale);
        if (floor && old > 0 && to_f32(want) == 0) want = T::from_bits(1);
        wrong += want.bits != after.as<T>()[i].bits;
        alive += to_f32(want) != 0;
        moved += to_f32(want) * *after.scales() != old;
    }
    EXPECT_EQ(wrong, 0) << e.name;
    EXPECT_GT(alive, n / 4) << e.name;
    EXPECT_GT(moved, n / 4) << e.name;
}

TEST(Mixture, AnExpertWithoutTokensLearnsNothing) {
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const bool step_before : {false, true}) {
            if (step_before && axis == Axis::row) continue;
            SCOPED_TRACE(axis == Axis::row ? "tokens" : step_before ? "step" : "micro-batch");
            StepOptions o = smooth_channels(step_before);
            o.recipe.smooth->axis = axis;
            o.architecture = with_idle_expert();
            o.adamw.v_floor = true;
            const IdleStep step = idle_step(o), again = idle_step(o);
            EXPECT_TRUE(std::isfinite(step.loss));
            EXPECT_TRUE(std::isfinite(step.norm));
            EXPECT_EQ(step.loss, again.loss);
            EXPECT_EQ(step.norm, again.norm);
            EXPECT_EQ(step.after, again.after);
            EXPECT_EQ(step.gradients.size(), 2u * 3);
            for (const auto& [name, stack] : step.gradients) {
                for (std::int64_t e = 0; e <= kIdle; ++e) {
                    const auto g = of_expert(stack, e, kIdle + 1);
                    const auto zeros = std::ranges::count(g, 0.0f);
                    EXPECT_EQ(zeros == std::ssize(g), e == kIdle) << name << " " << e;
                }
            }
            std::size_t moments = 0;
            test::Session s(o);
            for (const State::Entry& e : s.state().entries()) {
                const std::string_view role = state_role(e.name);
                const std::string parameter(parameter_of(e.name));
                if (!step.gradients.contains(parameter)) continue;
                if (role == "adam.m") expect_decayed<e4m3>(e, step, o.adamw.beta1, false);
                if (role == "adam.v") expect_decayed<e5m2>(e, step, o.adamw.beta2, true);
                moments += role == "adam.m" || role == "adam.v";
            }
            EXPECT_EQ(moments, 2u * 3 * 2);
        }
    }
}

// Channels of all experts share their factors, powers of two: a function that is not quantised is
// the same to the bit where products of other values are summed in the same order.
TEST(Mixture, ChannelsChangeNothingBeforeTheyAreQuantised) {
    const std::int64_t rows = test::on_cuda() ? 128 : 1;
    const auto smoothed = [](const StepOptions& o) {
        const Graph g = inspection_graph(o, /*gradients=*/true);
        return std::ranges::count_if(
            g.nodes(), [](const Node& n) { return std::holds_alternative<SmoothSwiGlu>(n.op); });
    };
    for (const std::string recipe : {"fp32", "bf16"}) {
        const StepOptions plain = options(recipe, mixture());
        EXPECT_EQ(smoothed(plain), 0);
        const Outputs want = gradients(plain, rows);
        for (const bool step_before : {false, true}) {
            SCOPED_TRACE(fmt::format("{} {}", recipe, step_before ? "step" : "micro_batch"));
            StepOptions o = plain;
            o.recipe.smooth = smooth_channels(step_before).recipe.smooth;
            EXPECT_EQ(smoothed(o), 2);
            const Outputs got = gradients(o, rows);
            EXPECT_EQ(got.size(), want.size());
            for (const auto& [name, values] : got) {
                if (!test::on_cuda()) {
                    EXPECT_EQ(values, want.at(name)) << name;
                    continue;
                }
                EXPECT_LE(test::relative_error(values, want.at(name)),
                          recipe == "fp32" ? 1e-5 : 1e-2)
                    << name;
            }
        }
    }
}

TEST(Mixture, ChannelsTrain) {
    const auto losses = [](const StepOptions& o) {
        test::Session s(o);
        std::vector<float> found;
        for (int step = 1; step <= 12; ++step) {
            found.push_back(s.micro(test::random_batch(o, 3)));
            s.program.update(3e-3, step);
        }
        return found;
    };
    for (const std::string recipe : {"smooth-swiglu", "moss", "blockwise"}) {
        StepOptions plain = options(recipe, mixture(128, 128));
        const Format hidden =
            plain.recipe.smooth ? plain.recipe.smooth->hidden : *plain.recipe.activation;
        plain.recipe.smooth.reset();
        const std::vector<float> want = losses(plain);
        for (const bool step_before : {false, true}) {
            SCOPED_TRACE(fmt::format("{} {}", recipe, step_before ? "step" : "micro_batch"));
            StepOptions o = plain;
            o.recipe.smooth =
                Smooth{.axis = Axis::column, .hidden = hidden, .step_before = step_before};
            const std::vector<float> got = losses(o);
            EXPECT_NEAR(got.front(), want.front(), 0.01);
            EXPECT_LT(got.back(), got.front() - 3);
            EXPECT_NEAR(got.back(), want.back(), 0.1);
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
