// Scale propagation over whole training steps.
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include <gtest/gtest.h>
#include "backends/cpu/cpu.h"
#include "base/convert.h"
#include "base/dtype_traits.h"
#include "base/float16.h"
#include "base/float8.h"
#include "base/power.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::Session;
using test::tiny_options;

// Everything in f32, so that scaling moves no bit.
StepOptions wide(Family family, bool rescale) {
    StepOptions o = tiny_options(family, "scalify");
    o.recipe.compute = Dtype::f32;
    o.recipe.activation = o.recipe.weight = o.recipe.output_grad = std::nullopt;
    o.recipe.propagation->rescale_norms = rescale;
    return o;
}

struct Trained {
    std::vector<float> losses, norms;
    std::map<std::string, std::vector<std::byte>> state;  // weights and moments
};

enum class Tokens : std::uint8_t { random, distinct };

test::TokenBatch batch_of(const StepOptions& o, Tokens tokens, std::uint64_t seed) {
    test::TokenBatch batch = test::random_batch(o, seed);
    const auto vocabulary = static_cast<std::size_t>(o.architecture.vocab_size);
    EXPECT_LE(batch.ids.size(), vocabulary);
    for (std::size_t i = 0; i < batch.ids.size() && tokens == Tokens::distinct; ++i) {
        batch.ids[i] = static_cast<std::int32_t>((21 * i + seed) % vocabulary);  // 21 is coprime
    }
    return batch;
}

Trained train(const StepOptions& o, int steps, int micro_batches, Tokens tokens = Tokens::random,
              const std::function<void(Session&)>& after_step = {}) {
    Session s(o, micro_batches > 1);
    Trained t;
    for (int step = 1; step <= steps; ++step) {
        for (int i = 0; i < micro_batches; ++i) {
            const auto seed = static_cast<std::uint64_t>(step * micro_batches + i);
            t.losses.push_back(s.micro(batch_of(o, tokens, seed), i == 0));
        }
        t.norms.push_back(s.program.update(1e-2, step));
        if (after_step) after_step(s);
    }
    for (const State::Entry& e : s.state().entries()) {
        const std::string_view role = state_role(e.name);
        if (role == "weight" || role.starts_with("adam")) {
            t.state[e.name] = test::read_all(s.state(), e.name);
        }
    }
    return t;
}

void expect_same(const Trained& a, const Trained& b) {
    EXPECT_EQ(a.losses, b.losses);
    EXPECT_EQ(a.norms, b.norms);
    ASSERT_EQ(a.state.size(), b.state.size());
    for (const auto& [name, bytes] : a.state) EXPECT_TRUE(bytes == b.state.at(name)) << name;
}

class Scalify : public testing::TestWithParam<Family> {};

// What propagation leaves in a graph: factors 2^e, e != 0, sizes that are measured, and scales of
// gradients.
struct ScalesOf {
    int factors = 0, measured = 0, gradients = 0;
};
ScalesOf scales_of(const Graph& g) {
    ScalesOf found;
    for (const Node& n : g.nodes()) {
        std::visit(
            [&]<class Op>(const Op& op) {
                if constexpr (std::is_same_v<Op, DynamicRescale>) {
                    ++found.measured;
                } else if constexpr (requires { int{op.exponent}; }) {
                    found.factors += op.exponent != 0;
                } else if constexpr (requires { op.a_exponent + op.b_exponent; }) {
                    found.factors += op.a_exponent != 0 || op.b_exponent != 0;
                } else if constexpr (requires { op.measure.has_value(); }) {
                    found.measured += op.measure.has_value();
                } else if constexpr (std::is_same_v<Op, Store>) {
                    found.gradients += op.name.starts_with("grad.scale/");
                }
            },
            n.op);
    }
    return found;
}

// The scales are there: without them the comparisons below would compare a model with itself.
void expect_scaled(const StepOptions& o, bool rescale) {
    const ScalesOf found = scales_of(micro_graph(o, /*add_to_gradients=*/false));
    const auto layers = static_cast<int>(o.architecture.layers);
    // A layer has 12 to 21 products, and sums and functions beside them.
    EXPECT_GE(found.factors, 16 * layers);
    EXPECT_EQ(found.measured, rescale ? 2 * layers : 0);  // of a layer's two norms
    EXPECT_EQ(found.gradients, std::ssize(parameters(o.architecture)));
    // And they are not all 1, nor all the same.
    Session s(o);
    s.micro(test::random_batch(o, 1));
    std::set<float> scales;
    for (const State::Entry& e : s.state().entries()) {
        if (!e.name.starts_with("grad.scale/")) continue;
        scales.insert(test::read_f32(s.state(), e.name)[0]);
    }
    EXPECT_GE(scales.size(), 6u);
}

// S1: in exact arithmetic scales change nothing, and in f32 powers of two are exact.
TEST_P(Scalify, InF32IsF32) {
    for (const bool rescale : {false, true}) {
        StepOptions plain = tiny_options(GetParam(), "fp32"), scaled = wide(GetParam(), rescale);
        plain.fuse = scaled.fuse = false;
        SCOPED_TRACE(fmt::format("rescale {}", rescale));
        expect_scaled(scaled, rescale);
        for (const int micro_batches : {1, 3}) {
            SCOPED_TRACE(fmt::format("{} micro-batches", micro_batches));
            expect_same(train(plain, 6, micro_batches), train(scaled, 6, micro_batches));
        }
    }
}

// What fusing joins is added in one order on the CPU, but for the gradient of a table that is the
// head's, too: f32 adds each token to it, while under scales tokens are summed by themselves
// before. That is the same where no token comes twice.
TEST_P(Scalify, FusedInF32IsFusedF32) {
    if (test::on_cuda()) GTEST_SKIP() << "products that accumulate add in another order there";
    const StepOptions plain = tiny_options(GetParam(), "fp32"), scaled = wide(GetParam(), true);
    expect_scaled(scaled, true);
    const Tokens tokens = plain.architecture.tie_embeddings ? Tokens::distinct : Tokens::random;
    expect_same(train(plain, 3, 1, tokens), train(scaled, 3, 1, tokens));
}

// Nor do they when they are measured anew on the way, which is every other step.
TEST_P(Scalify, RescaledStatesInF32AreF32) {
    for (const bool fused : {false, true}) {
        if (fused && test::on_cuda()) continue;  // products that accumulate add in another order
        StepOptions still = wide(GetParam(), true);
        still.fuse = fused;
        StepOptions moves = still;
        moves.recipe.propagation->state_rescale = 2;
        for (const int micro_batches : {1, 3}) {
            SCOPED_TRACE(fmt::format("fused {}, {} micro-batches", fused, micro_batches));
            std::set<Exponents> seen;
            expect_same(train(still, 6, micro_batches),
                        train(moves, 6, micro_batches, Tokens::random,
                              [&](Session& s) { seen.insert(s.program.exponents()); }));
            // Biases start at zero and gains at 1, so that the first measurement moves some.
            EXPECT_GE(seen.size(), 3u);
        }
    }
}

// The paper's #0.
TEST_P(Scalify, RunZeroIsF32) {
    StepOptions zero = tiny_options(GetParam(), "scalify");
    set_scalify_run(zero.recipe, 0);
    expect_same(train(tiny_options(GetParam(), "fp32"), 4, 2), train(zero, 4, 2));
}

INSTANTIATE_TEST_SUITE_P(Families, Scalify,
                         testing::Values(Family::llama, Family::qwen2, Family::qwen3,
                                         Family::gpt2));

StepOptions run_of(int run, Family family = Family::llama) {
    StepOptions o = tiny_options(family, "scalify");
    set_scalify_run(o.recipe, run);
    return o;
}

TEST(ScalifyRuns, MemoriseABatch) {
    for (const int run : {1, 2, 3, 4}) {
        for (const Family family : {Family::llama, Family::gpt2}) {
            SCOPED_TRACE(fmt::format("#{} {}", run, name(family)));
            StepOptions o = run_of(run, family);
            o.batch = 8;
            o.architecture.hidden_size = 64;
            o.architecture.head_dim = 16;
            o.adamw.weight_decay = 0;
            Session s(o);
            const test::TokenBatch batch = test::random_batch(o, 1);
            EXPECT_NEAR(s.micro(batch), std::log(64.0f), 0.1f);
            float loss = 5;
            for (int step = 1; step <= 150; ++step) {
                s.program.update(4e-3, step);
                loss = s.micro(batch);
            }
            EXPECT_LE(loss, 0.1f);
        }
    }
}

TEST(ScalifyRuns, NanForOverflowsMovesNothingThatFits) {
    StepOptions saturates = run_of(3);
    saturates.fuse = false;
    StepOptions makes_nan = saturates;
    makes_nan.recipe.propagation->scales.nan_casts = true;
    for (const int micro_batches : {1, 2}) {
        expect_same(train(saturates, 3, micro_batches), train(makes_nan, 3, micro_batches));
    }
}

TEST(ScalifyRuns, StatesAreThoseOfTheTable) {
    const std::string linear = "model.layers.0.mlp.up_proj.weight", table = "lm_head.weight";
    const auto type = [](Session& s, const std::string& name) { return s.state().at(name).type; };
    const Shape shape{96, 32};
    Session one(run_of(1)), three(run_of(3)), four(run_of(4));
    EXPECT_EQ(type(one, linear), (Type{Dtype::f32, shape}));
    EXPECT_EQ(type(one, "work.f16/" + linear), (Type{Dtype::f16, shape}));
    EXPECT_EQ(type(one, "grad/" + linear), (Type{Dtype::f16, shape}));
    EXPECT_EQ(type(three, linear), (Type{Dtype::f16, shape, kPerTensor}));
    EXPECT_EQ(type(three, "work.e4m3/" + linear), (Type{Dtype::e4m3, shape}));
    EXPECT_EQ(type(three, "grad/" + linear), (Type{Dtype::e5m2, shape}));
    EXPECT_EQ(type(three, "adam.v/" + linear), (Type{Dtype::f32, shape}));
    EXPECT_EQ(type(four, "adam.v/" + linear), (Type{Dtype::f16, shape, kPerTensor}));
    EXPECT_EQ(type(four, "scale.moments/" + linear), (Type{Dtype::f32, {2}}));
    EXPECT_FALSE(three.state().contains("scale.moments/" + linear));
    EXPECT_EQ(type(three, table).dtype, Dtype::f32);
    EXPECT_EQ(type(three, "work.f16/" + table).dtype, Dtype::f16);
}

float scale_of(Session& s, const std::string& name) {
    const auto bytes = test::read_all(s.state(), name);
    const TensorRef t = tensor_at(s.state().at(name).type, const_cast<std::byte*>(bytes.data()));
    return *t.scales();
}

// Codes of a master are worth the same at every step; the working copy holds the same data.
TEST(ScalifyRuns, MastersKeepTheScaleOfTheirInitialisation) {
    Session s(run_of(4));
    const std::string up = "model.layers.0.mlp.up_proj.weight";
    const std::string down = "model.layers.0.mlp.down_proj.weight";
    for (int step = 0; step <= 3; ++step) {
        if (step > 0) {
            s.micro(test::random_batch(s.program.options(), static_cast<std::uint64_t>(step)));
            s.program.update(1e-2, step);
        }
        EXPECT_EQ(scale_of(s, up), 0x1p-6f);    // 0.02
        EXPECT_EQ(scale_of(s, down), 0x1p-7f);  // 0.02 / sqrt(2 layers)
        std::vector<f16> codes(96 * 32);
        std::vector<e4m3> copy(96 * 32);
        s.state().read(up, codes.data());
        s.state().read("work.e4m3/" + up, copy.data());
        for (std::size_t i = 0; i < codes.size(); ++i) {
            ASSERT_EQ(copy[i], e4m3(to_f32(codes[i]))) << i;
        }
    }
    // Moments have powers of two that follow the gradients.
    for (const char* moment : {"adam.m/", "adam.v/"}) {
        int exponent = 0;
        EXPECT_EQ(std::frexp(scale_of(s, moment + up), &exponent), 0.5f);
        EXPECT_LT(exponent, 0);
    }
}

template <class T>
std::vector<float> data_of(Session& s, const std::string& name) {
    std::vector<T> codes(static_cast<std::size_t>(s.state().at(name).type.shape.elements()));
    s.state().read(name, codes.data());
    std::vector<float> data;
    for (const T x : codes) data.push_back(to_f32(x));
    return data;
}

void expect_unit_size(Session& s, const std::string& name) {
    const double l2 = tensor_size(data_of<f16>(s, name)).l2;
    EXPECT_GE(l2, 1) << name;
    EXPECT_LT(l2, 2) << name;
}

// Steps that move weights far from their initialisation, so that their scales have to follow.
TEST(ScalifyRuns, StatesAreRescaled) {
    const std::string up = "model.layers.0.mlp.up_proj.weight";
    for (const int run : {2, 3, 4}) {
        SCOPED_TRACE(run);
        StepOptions still = run_of(run), moves = still;
        moves.recipe.propagation->state_rescale = 3;
        Session a(still), b(moves);
        for (int step = 1; step <= 7; ++step) {
            const test::TokenBatch batch = test::random_batch(still, 1);
            const float want = a.micro(batch), got = b.micro(batch);
            // Values stay, so that the first loss after a rescale differs by roundings of 8 bits;
            // what the steps after it make of those is another run's.
            EXPECT_TRUE(got == want || step > 3) << step;
            EXPECT_NEAR(got, want, (step == 4 ? 1e-4f : 0.03f) * want) << step;
            a.program.update(2e-2, step);
            b.program.update(2e-2, step);
            EXPECT_EQ(scale_of(a, up), 0x1p-6f);
            if (step < 3) {
                EXPECT_EQ(b.program.exponents(), Exponents{});
                continue;
            }
            EXPECT_EQ(b.program.exponents().at(up), -5);  // at 6 no longer than at 3
            for (const State::Entry& e : b.state().entries()) {
                const std::string_view role = state_role(e.name);
                if (role == "weight" && e.type.scaling == kPerTensor) {
                    EXPECT_EQ(scale_of(b, e.name), std::ldexp(1.0f, *e.exponent)) << e.name;
                }
                if (e.type.scaling == kPerTensor && step % 3 == 0) expect_unit_size(b, e.name);
                if (role != "work.e4m3") continue;
                const auto codes = data_of<e4m3>(b, e.name);
                const auto master = data_of<f16>(b, std::string(parameter_of(e.name)));
                for (std::size_t i = 0; i < codes.size(); ++i) {
                    ASSERT_EQ(codes[i], to_f32(e4m3(master[i]))) << e.name << " " << i;
                }
            }
        }
    }
}

// From where a measurement left them, bounds of moments go on as the rule has it.
TEST(ScalifyRuns, BoundsGoOnFromWhatWasMeasured) {
    StepOptions o = run_of(4);
    o.recipe.propagation->state_rescale = 2;
    const std::string up = "model.layers.0.mlp.up_proj.weight";
    const std::string bounds = moment_bounds_name(up);
    Session s(o);
    std::vector<float> before;
    for (int step = 1; step <= 5; ++step) {
        s.micro(test::random_batch(o, static_cast<std::uint64_t>(step)));
        s.program.update(1e-2, step);
        const std::vector<float> now = test::read_f32(s.state(), bounds);
        for (const int k : {0, 1}) {
            const std::string moment = (k == 0 ? "adam.m/" : "adam.v/") + up;
            EXPECT_EQ(scale_of(s, moment), floor_power(now[k])) << step;
            if (step % 2 == 0) {
                expect_unit_size(s, moment);
            } else if (step > 1) {
                EXPECT_GE(now[k], (k == 0 ? 0.9f : 0.95f) * before[k]) << step;
            }
        }
        before = now;
    }
}

// S9: what casts to 8 bits saturate and lose, at the start of training.
TEST(ScalifyRuns, CastsAreSafe) {
    for (const Family family : {Family::llama, Family::gpt2}) {
        StepOptions o = run_of(3, family);
        o.batch = 8;
        o.seq = 64;
        Graph g = micro_graph(o, false);
        std::vector<std::pair<Output, Cast>> casts;
        for (const Node& n : std::vector<Node>(g.nodes().begin(), g.nodes().end())) {
            const auto* cast = std::get_if<Cast>(&n.op);
            if (!cast || !is_fp8(cast->to)) continue;
            casts.push_back({{fmt::format("{} {}", n.label, casts.size()), n.in[0]}, *cast});
            g.add_output(casts.back().first.name, n.in[0]);
        }
        EXPECT_GE(casts.size(), 16u);
        Program program(test::backend());
        program.add("micro", g);
        program.add("refresh", refresh_graph(o.recipe, g));
        program.allocate(test::kNoLimit);
        for (const Parameter& p : parameters(o.architecture)) {
            if (program.state().contains(p.name)) {
                write_values(program.state(), p.name, initial_values(p, 1));
            }
        }
        program.run("refresh");
        const test::TokenBatch batch = test::random_batch(o, 1);
        const float weight = 1.0f / static_cast<float>(batch.ids.size());
        program.write_input("micro", "ids", batch.ids.data());
        program.write_input("micro", "targets", batch.targets.data());
        program.write_input("micro", "weight", &weight);
        program.run("micro");
        for (const auto& [output, cast] : casts) {
            const Type type = g.type(output.value);
            std::vector<std::byte> raw(static_cast<std::size_t>(data_bytes(type)));
            program.read_output("micro", output.name, raw.data());
            std::vector<float> x(raw.size() / size_of(type.dtype));
            convert(raw, type.dtype, std::as_writable_bytes(std::span(x)), Dtype::f32);
            const bool e4 = cast.to == Dtype::e4m3;
            const float top = max_value(cast.to), least = e4 ? 0x1p-10f : 0x1p-17f;
            double saturated = 0, zeroed = 0, squares = 0;
            for (float v : x) {
                v = std::abs(std::ldexp(v, cast.exponent));
                saturated += v > top;
                zeroed += v > 0 && v <= least;
                squares += v * v;
            }
            const auto n = static_cast<double>(x.size());
            const double size = std::log2(std::sqrt(squares / n));
            SCOPED_TRACE(fmt::format("{} {}: size 2^{:.1f}", name(cast.to), output.name, size));
            EXPECT_LT(saturated / n, 1e-4);
            // Gradients of probabilities are far from normal: many are near zero.
            EXPECT_LT(zeroed / n, e4 ? 0.013 : 0.026);
            EXPECT_GT(size, e4 ? -4 : -12);
            EXPECT_LT(size, e4 ? 6 : 13);
        }
    }
}

// S11: the other backend finds the scales of the CPU, and gradients that differ by rounding.
// Products are summed in another order there, which may take a size across a power of two.
TEST(ScalifyRuns, BackendsAgreeOnScales) {
    if (!test::on_cuda()) GTEST_SKIP() << "compares the GPU with the CPU";
    StepOptions o = run_of(3);
    o.architecture.hidden_size = 64;
    o.architecture.head_dim = 16;
    const auto cpu = make_cpu_backend();
    const auto gpu = test::make_test_backend();
    TrainProgram a(*cpu, o, false), b(*gpu, o, false);
    const test::TokenBatch batch = test::random_batch(o, 1);
    for (TrainProgram* p : {&a, &b}) {
        p->allocate(test::kNoLimit);
        p->initialise(1);
        p->micro(batch.ids, batch.targets, 1.0f / static_cast<float>(batch.ids.size()), true);
    }
    int scales = 0, equal = 0;
    for (const State::Entry& e : a.state().entries()) {
        if (e.name.starts_with("work.")) {
            EXPECT_EQ(test::read_all(a.state(), e.name), test::read_all(b.state(), e.name))
                << e.name;
        }
        if (!e.name.starts_with("grad.scale/")) continue;
        const float x = test::read_f32(a.state(), e.name)[0],
                    y = test::read_f32(b.state(), e.name)[0];
        EXPECT_TRUE(y == x || y == 2 * x || x == 2 * y) << e.name << " " << x << " " << y;
        ++scales;
        equal += x == y;
    }
    EXPECT_GE(scales, 20);
    EXPECT_GE(equal, scales - 2);
}

// Micro-batches add up as one batch does, whatever the scales of their gradients.
TEST(ScalifyRuns, MicroBatchesAddUp) {
    for (const int run : {1, 3}) {
        StepOptions whole = run_of(run), half = whole;
        half.batch = whole.batch / 2;
        Session a(whole), b(half, true);
        const test::TokenBatch batch = test::random_batch(whole, 1);
        const auto cut = static_cast<std::ptrdiff_t>(batch.ids.size() / 2);
        const auto part = [&](bool second) {
            const auto take = [&](const std::vector<std::int32_t>& v) {
                return second ? std::vector(v.begin() + cut, v.end())
                              : std::vector(v.begin(), v.begin() + cut);
            };
            return test::TokenBatch{take(batch.ids), take(batch.targets)};
        };
        const auto weight = 1.0f / static_cast<float>(batch.ids.size());
        a.program.micro(batch.ids, batch.targets, weight, true);
        for (const bool second : {false, true}) {
            const test::TokenBatch p = part(second);
            b.program.micro(p.ids, p.targets, weight, !second);
        }
        EXPECT_NEAR(a.program.loss(), b.program.loss(), 2e-3f);
        const float norm = a.program.update(1e-3, 1);
        EXPECT_NEAR(b.program.update(1e-3, 1), norm, 0.02f * norm) << "#" << run;
    }
}

}  // namespace
}  // namespace octavo
