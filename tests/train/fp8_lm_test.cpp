// The levels of FP8-LM (arXiv 2310.18313): what lies in State, and that it trains.
#include <cmath>

#include "base/convert.h"
#include "io/scratch.h"
#include "train/tiny.h"

namespace octavo {
namespace {

using test::Session;

constexpr const char* kLinear = "model.layers.1.mlp.up_proj.weight";
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

StepOptions level_options(std::string_view level, bool cache_weights = true,
                          Family family = Family::llama) {
    StepOptions o = test::tiny_options(family, "fp8-lm");
    o.recipe.states = fp8_lm_states(level);
    o.recipe.cache_weights = cache_weights;
    return o;
}

// What a tensor's codes stand for.
std::vector<float> values_of(const State& state, std::string_view name) {
    const Type& type = state.at(name).type;
    std::vector<std::byte> all = test::read_all(state, name);
    const TensorRef t = tensor_at(type, all.data());
    std::vector<float> values(static_cast<std::size_t>(type.shape.elements()));
    dequantise(t.data, type.dtype, t.scale ? *t.scales() : 1.0f, values.data(), Dtype::f32,
               std::ssize(values));
    return values;
}

float scale_of(const State& state, std::string_view name) {
    std::vector<std::byte> all = test::read_all(state, name);
    return *tensor_at(state.at(name).type, all.data()).scales();
}

std::map<std::string, std::vector<std::byte>> kept_by_a_skipped_step(const State& state) {
    std::map<std::string, std::vector<std::byte>> all;
    for (const State::Entry& e : state.entries()) {
        const std::string_view role = state_role(e.name);
        if (role != "grad" && role != "step" && !role.starts_with("scale.")) {
            all[e.name] = test::read_all(state, e.name);
        }
    }
    return all;
}

double state_bytes(std::string_view recipe, std::string_view level, bool cache_weights,
                   bool accumulates = false, Dtype sum = Dtype::f32) {
    StepOptions o = test::tiny_options(Family::llama, recipe);
    o.architecture.hidden_size = 256;
    o.architecture.head_dim = 64;
    o.architecture.intermediate_size = 704;
    o.recipe.states = fp8_lm_states(level);
    o.recipe.states.gradient_sum = sum;
    o.recipe.cache_weights = cache_weights;
    const auto backend = test::make_test_backend();
    const TrainProgram program(*backend, o, accumulates);
    double bytes = 0;
    for (const auto& [role, part] : linear_state_bytes(program)) bytes += part;
    return bytes;
}

TEST(Fp8LmLevels, StateTakesTheBytesOfTheTable) {
    EXPECT_NEAR(state_bytes("fp32", "O0", true), 16, 0.1);
    EXPECT_NEAR(state_bytes("fp8-lm", "O1", false), 11, 0.1);
    EXPECT_NEAR(state_bytes("fp8-lm", "O2", false), 6, 0.1);
    EXPECT_NEAR(state_bytes("fp8-lm", "O3", true), 7, 0.1);
    // With E4M3 copies at every level.
    EXPECT_NEAR(state_bytes("fp8-lm", "O1", true), 12, 0.1);
    EXPECT_NEAR(state_bytes("fp8-lm", "O2", true), 7, 0.1);
    // Several micro-batches are summed in 16 or 32 bits.
    for (const auto& [sum, more] : {std::pair{Dtype::bf16, 1.0}, std::pair{Dtype::f32, 3.0}}) {
        EXPECT_NEAR(state_bytes("fp8-lm", "O2", false, true, sum), 6 + more, 0.1);
        EXPECT_NEAR(state_bytes("fp8-lm", "O3", true, true, sum), 7 + more, 0.1);
    }
}

// A layer in bf16 costs a byte more for each weight, whether FP8 copies lie in State or not.
TEST(Fp8LmLevels, LayersInBf16HaveWorkingCopiesInBf16) {
    const auto working_bytes = [](const std::vector<std::string>& names, bool cache_weights) {
        StepOptions o = level_options("O2", cache_weights);
        o.recipe.in_compute = names;
        const auto backend = test::make_test_backend();
        const TrainProgram program(*backend, o, false);
        std::map<std::string, std::int64_t> bytes;
        for (const State::Entry& e : program.program().state().entries()) {
            const std::string_view role = state_role(e.name);
            if (role.starts_with("work.")) bytes[std::string(role)] += data_bytes(e.type);
        }
        return bytes;
    };
    const std::int64_t tables = 2 * 64 * 32, down = 2 * 32 * 96;
    const std::int64_t linear = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 96);
    EXPECT_EQ(working_bytes({}, true), (std::map<std::string, std::int64_t>{
                                           {"work.bf16", 2 * tables}, {"work.e4m3", linear}}));
    EXPECT_EQ(working_bytes({"down_proj"}, true),
              (std::map<std::string, std::int64_t>{{"work.bf16", 2 * (tables + down)},
                                                   {"work.e4m3", linear - down}}));
    EXPECT_EQ(working_bytes({"down_proj"}, false),
              (std::map<std::string, std::int64_t>{{"work.bf16", 2 * (tables + down)},
                                                   {"work.scale", 4 * 2 * 6}}));
}

// For study: masters in e4m3. The codes that products read are those of the master, and steps below
// half a quantum are lost.
TEST(Fp8LmMasters, MayBeInE4m3) {
    const std::string work = fmt::format("work.e4m3/{}", kLinear);
    for (const bool cache_weights : {true, false}) {
        StepOptions o = level_options("O2", cache_weights);
        o.recipe.states.master = Dtype::e4m3;
        Session s(o);
        EXPECT_EQ(s.state().at(kLinear).type, state_type(Dtype::e4m3, {96, 32}));
        for (int step = 1; step <= 3; ++step) {
            const auto before = values_of(s.state(), kLinear);
            const float rate = step == 2 ? 1e-8f : 1e-2f;
            s.micro(test::random_batch(o, static_cast<std::uint64_t>(step)));
            s.program.update(rate, step);
            EXPECT_EQ(values_of(s.state(), kLinear) == before, step == 2) << step;
            if (cache_weights) {
                EXPECT_EQ(values_of(s.state(), work), values_of(s.state(), kLinear)) << step;
            }
        }
    }
}

TEST(Fp8LmLevels, FormatsAreThoseOfTheTable) {
    for (const Family family : {Family::llama, Family::qwen2, Family::qwen3, Family::gpt2}) {
        for (const bool tied : {false, true}) {
            if (family == Family::gpt2 && !tied) continue;
            StepOptions o = level_options("O3", true, family);
            o.architecture.tie_embeddings = tied;
            Session s(o);
            for (const Parameter& p : parameters(o.architecture)) {
                const StateFormats f = formats_of(o.recipe, p);
                const bool linear = p.decays() && !p.table;
                EXPECT_EQ(f.master, linear ? Dtype::f16 : Dtype::f32) << p.name;
                EXPECT_EQ(s.state().at(p.name).type, state_type(f.master, p.shape));
                EXPECT_EQ(s.state().at("grad/" + p.name).type, state_type(f.gradient, p.shape));
                EXPECT_EQ(s.state().at("adam.m/" + p.name).type, state_type(f.m, p.shape));
                EXPECT_EQ(s.state().at("adam.v/" + p.name).type, state_type(f.v, p.shape));
                EXPECT_EQ(s.state().contains("work.e4m3/" + p.name), linear) << p.name;
            }
        }
    }
}

TEST(Fp8LmLevels, MastersStartAtTheRoundedInitialValues) {
    Session s(level_options("O2"));
    for (const Parameter& p : parameters(s.program.options().architecture)) {
        const std::vector<float> want = initial_values(p, 1), got = values_of(s.state(), p.name);
        if (!p.decays() || p.table) {
            EXPECT_EQ(got, want) << p.name;
            continue;
        }
        int exponent = 0;
        EXPECT_EQ(std::frexp(scale_of(s.state(), p.name), &exponent), 0.5f) << p.name;
        const float top = amax(want.data(), Dtype::f32, std::ssize(want));
        for (std::size_t i = 0; i < want.size(); ++i) {
            ASSERT_NEAR(got[i], want[i], 0x1p-11f * std::abs(want[i]) + 0x1p-39f * top) << p.name;
        }
        // The working codes come from the rounded master.
        const float scale = scale_of(s.state(), "work.e4m3/" + p.name);
        std::vector<std::byte> codes(got.size()), stored(got.size());
        quantise(got.data(), Dtype::f32, 1 / scale, codes.data(), Dtype::e4m3, std::ssize(got));
        s.state().read("work.e4m3/" + p.name, stored.data());
        EXPECT_EQ(codes, stored) << p.name;
    }
}

TEST(Fp8LmLevels, GraphsKeepTheRules) {
    for (const Family family : {Family::llama, Family::gpt2}) {
        for (const int options : {0, 1, 2, 3, 4, 5, 6, 7}) {
            StepOptions o = level_options("O2", /*cache_weights=*/options & 1, family);
            o.accumulates = options & 2;
            o.fuse = options & 4;
            o.target.k_major_fp8 = true;
            const Graph micro = micro_graph(o, false);
            verify(micro);
            if (o.accumulates) verify(micro_graph(o, true));
            verify(update_graph(o, micro));
            verify(eval_graph(o));
            verify(refresh_graph(o.recipe, micro));
        }
    }
}

// E4M3 gradients are the rounded f32 ones, under a power of two from their own amax.
TEST(Fp8LmGradients, AreRoundedOnceAfterTheLastMicroBatch) {
    for (const bool fuse : {true, false}) {
        for (const int micro_batches : {1, 3}) {
            SCOPED_TRACE(fmt::format("fuse {}, {} micro-batches", fuse, micro_batches));
            StepOptions wide = test::tiny_options(Family::llama, "fp8-lm");
            wide.fuse = fuse;
            wide.clip = 0.05f;  // the first norm is above it
            StepOptions narrow = wide;
            narrow.recipe.states.gradient = Dtype::e4m3;
            const bool accumulates = micro_batches > 1;
            Session a(wide, accumulates), b(narrow, accumulates);
            for (int i = 0; i < micro_batches; ++i) {
                const auto batch = test::random_batch(wide, static_cast<std::uint64_t>(i));
                a.micro(batch, i == 0);
                b.micro(batch, i == 0);
            }
            for (const Parameter& p : parameters(wide.architecture)) {
                if (!p.decays() || p.table) continue;
                const std::string name = gradient_name(p.name);
                std::vector<float> g = test::read_f32(a.state(), name);
                const float top = amax(g.data(), Dtype::f32, std::ssize(g));
                const Scale scale = next_scale(top, Dtype::e4m3, ScaleRounding::pow2, 0, {});
                std::vector<std::byte> codes(g.size()), stored(g.size());
                quantise(g.data(), Dtype::f32, scale.inv_scale, codes.data(), Dtype::e4m3,
                         std::ssize(g));
                if (!accumulates) {
                    EXPECT_EQ(b.state().at(name).type, state_type(Dtype::e4m3, p.shape));
                    b.state().read(name, stored.data());
                    EXPECT_EQ(codes, stored) << name;
                    EXPECT_EQ(scale_of(b.state(), name), scale.scale) << name;
                } else {
                    EXPECT_EQ(b.state().at(name).type, (Type{Dtype::f32, p.shape}));
                }
                dequantise(codes.data(), Dtype::e4m3, scale.scale, g.data(), Dtype::f32,
                           std::ssize(g));
                a.state().write(name, g.data());
            }
            EXPECT_EQ(a.program.update(1e-3, 1), b.program.update(1e-3, 1));
            for (const State::Entry& e : a.state().entries()) {
                if (state_role(e.name) == "grad") continue;
                EXPECT_EQ(test::read_all(a.state(), e.name), test::read_all(b.state(), e.name))
                    << e.name;
            }
        }
    }
}

TEST(Fp8LmGradients, SumsMayBeInBf16) {
    std::map<Dtype, float> norms;
    for (const Dtype sum : {Dtype::f32, Dtype::bf16}) {
        StepOptions o = level_options("O2");
        o.recipe.states.gradient_sum = sum;
        Session s(o, /*accumulates=*/true);
        EXPECT_EQ(s.state().at(gradient_name(kLinear)).type.dtype, sum);
        for (int i = 0; i < 3; ++i) {
            s.micro(test::random_batch(o, static_cast<std::uint64_t>(i)), i == 0);
        }
        norms[sum] = s.program.update(1e-3, 1);
    }
    EXPECT_NE(norms[Dtype::f32], norms[Dtype::bf16]);
    EXPECT_NEAR(norms[Dtype::bf16], norms[Dtype::f32], 0.01f * norms[Dtype::f32]);
}

// The f32 gradients of earlier layers do not wait for those of later ones to be rounded.
TEST(Fp8LmGradients, AreRoundedAsSoonAsTheyExist) {
    StepOptions o = level_options("O3");
    const Graph g = micro_graph(o, false);
    int waiting = 0, most = 0;
    for (const Node& n : g.nodes()) {
        const auto* matmul = std::get_if<Matmul>(&n.op);
        const auto* store = std::get_if<Store>(&n.op);
        if (matmul && matmul->kind == MatmulKind::wgrad) ++waiting;
        if (store && g.type(n.in[0]).dtype == Dtype::e4m3) --waiting;
        most = std::max(most, waiting);
    }
    EXPECT_EQ(waiting, 0);
    EXPECT_LE(most, 2);
}

TEST(Fp8LmGradients, OneThatIsNotFiniteSkipsTheStep) {
    for (const char* level : {"O1", "O2", "O3"}) {
        for (const bool cache_weights : {true, false}) {
            for (const float bad : {kNan, kInf}) {
                SCOPED_TRACE(fmt::format("{} {}", level, bad));
                Session s(level_options(level, cache_weights), /*accumulates=*/true);
                const auto batch = test::random_batch(s.program.options(), 1);
                s.micro(batch);
                s.program.update(1e-3, 1);
                s.micro(batch);
                std::vector<float> g = test::read_f32(s.state(), gradient_name(kLinear));
                g[7] = bad;
                s.state().write(gradient_name(kLinear), g.data());
                const auto before = kept_by_a_skipped_step(s.state());
                EXPECT_FALSE(std::isfinite(s.program.update(1e-3, 2)));
                for (const auto& [name, bytes] : kept_by_a_skipped_step(s.state())) {
                    EXPECT_TRUE(before.at(name) == bytes) << name << " changed";
                }
            }
        }
    }
}

// Written straight in E4M3, where infinities would saturate.
TEST(Fp8LmGradients, SaturatedOnesSkipTheStep) {
    Session s(level_options("O3"));
    const auto batch = test::random_batch(s.program.options(), 1);
    s.micro(batch);
    s.program.update(1e-3, 1);
    s.program.micro(batch.ids, batch.targets, kInf, true);
    const float fine = 1;
    s.state().write(kLossName, &fine);
    EXPECT_TRUE(std::isnan(scale_of(s.state(), gradient_name(kLinear))));
    const auto before = kept_by_a_skipped_step(s.state());
    EXPECT_FALSE(std::isfinite(s.program.update(1e-3, 2)));
    for (const auto& [name, bytes] : kept_by_a_skipped_step(s.state())) {
        EXPECT_TRUE(before.at(name) == bytes) << name << " changed";
    }
}

// O3's weights are cast once a step, those of O2 without copies in every pass: the same codes.
TEST(Fp8LmLevels, O3TrainsAsO2DoesBitForBit) {
    Session o2(level_options("O2", /*cache_weights=*/false)), o3(level_options("O3"));
    EXPECT_FALSE(o2.state().contains(fmt::format("work.e4m3/{}", kLinear)));
    for (int step = 1; step <= 100; ++step) {
        const auto batch =
            test::random_batch(o2.program.options(), static_cast<std::uint64_t>(step % 5));
        ASSERT_EQ(o2.micro(batch), o3.micro(batch)) << step;
        ASSERT_EQ(o2.program.update(1e-3, step), o3.program.update(1e-3, step)) << step;
    }
    for (const State::Entry& e : o2.state().entries()) {
        if (state_role(e.name) == "work.scale") {
            const std::string weight = e.name.substr(e.name.find('/') + 1);
            EXPECT_EQ(test::read_f32(o2.state(), e.name)[0],
                      scale_of(o3.state(), "work.e4m3/" + weight));
            continue;
        }
        EXPECT_EQ(test::read_all(o2.state(), e.name), test::read_all(o3.state(), e.name)) << e.name;
    }
}

TEST(Fp8LmLevels, EvaluationReadsTheSameWeights) {
    Session o2(level_options("O2", /*cache_weights=*/false)), o3(level_options("O3"));
    const auto batch = test::random_batch(o2.program.options(), 1);
    for (Session* s : {&o2, &o3}) {
        s->micro(batch);
        s->program.update(1e-3, 1);
    }
    EXPECT_EQ(o2.program.evaluate(batch.ids, batch.targets, 1),
              o3.program.evaluate(batch.ids, batch.targets, 1));
}

TEST(Fp8LmLevels, RecomputeChangesNoCodes) {
    for (const bool cache_weights : {true, false}) {
        StepOptions o = level_options("O2", cache_weights);
        Session plain(o);
        o.recompute = Recompute::block;
        Session again(o);
        const auto batch = test::random_batch(o, 1);
        for (int step = 1; step <= 3; ++step) {
            EXPECT_EQ(plain.micro(batch), again.micro(batch));
            EXPECT_EQ(plain.program.update(1e-3, step), again.program.update(1e-3, step));
        }
        EXPECT_EQ(test::read_all(plain.state(), kLinear), test::read_all(again.state(), kLinear));
    }
}

// The target follows from the token half of the time, and is anything else: the best loss is 2.73.
test::TokenBatch noisy_batch(const StepOptions& o, int step) {
    const auto seed = static_cast<std::uint64_t>(step);
    test::TokenBatch batch = test::random_batch(o, seed);
    for (std::size_t i = 0; i < batch.ids.size(); ++i) {
        if (Rng(seed, 2).bits(i) % 2 == 0) batch.targets[i] = (5 * batch.ids[i] + 3) % 64;
    }
    return batch;
}

// Short runs over the same fresh batches end where bf16's does.
TEST(Fp8LmLevels, TrainAsBf16Does) {
    constexpr int kSteps = 400, kLast = 50;
    const auto final_loss = [](StepOptions o) {
        o.batch = 8;
        o.seq = 32;
        Session s(o);
        float sum = 0;
        for (int step = 1; step <= kSteps; ++step) {
            const float loss = s.micro(noisy_batch(o, step));
            s.program.update(3e-3 * (kSteps + 1 - step) / kSteps, step);
            if (step > kSteps - kLast) sum += loss / kLast;
        }
        return sum;
    };
    const float want = final_loss(test::tiny_options(Family::llama, "bf16"));
    EXPECT_LT(want, 2.95f);  // from log(64) = 4.16
    StepOptions kept = level_options("O2");
    kept.recipe.in_compute = {"down_proj", "layers.0"};
    EXPECT_NEAR(final_loss(kept), want, 0.01f * want);
    for (const char* level : {"O0", "O1", "O2", "O3"}) {
        const float loss = final_loss(level_options(level));
        EXPECT_NEAR(loss, want, 0.01f * want) << level;
    }
}

}  // namespace
}  // namespace octavo
