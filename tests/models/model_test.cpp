#include "models/model.h"

#include <algorithm>
#include <map>

#include "io/scratch.h"
#include "models/experts.h"
#include "train/golden.h"

namespace octavo {
namespace {

TEST(Parameters, AreNamedAndShapedAsInTransformers) {
    for (const char* family : {"llama", "llama3-rope", "qwen2", "qwen3", "gpt2"}) {
        SCOPED_TRACE(family);
        const SafetensorsFile golden(test::fixture(family) / "golden.safetensors");
        std::map<std::string, Shape> want;
        for (const TensorEntry& e : golden.entries()) {
            if (e.name.starts_with("grad.")) want[e.name.substr(5)] = golden.at(e.name).shape;
        }
        const Architecture arch = read_hf_config(test::fixture(family));
        std::int64_t elements = 0;
        for (const Parameter& p : parameters(arch)) {
            ASSERT_TRUE(want.contains(p.name)) << p.name;
            EXPECT_EQ(want.at(p.name), p.shape) << p.name;
            want.erase(p.name);
            elements += p.shape.elements();
        }
        EXPECT_TRUE(want.empty()) << want.begin()->first;
        EXPECT_EQ(parameter_count(arch), elements);
    }
}

// Experts of a layer are one tensor here, and one each in folders.
TEST(Parameters, ExpertsAreStacks) {
    const Architecture arch = read_hf_config(test::fixture("qwen3-moe"));
    const SafetensorsFile file(test::fixture("qwen3-moe") / "model.safetensors");
    std::size_t stored = 0;
    for (const Parameter& p : parameters(arch)) {
        for (const StoredParameter& s : stored_parameters(p.name, p.shape)) {
            EXPECT_EQ(file.at(s.name).shape, s.shape) << s.name;
            ++stored;
        }
        const bool gate = p.name.ends_with(".mlp.gate.weight");
        EXPECT_EQ(p.router, gate) << p.name;
        EXPECT_EQ(p.shape.rank() == 3, p.name.find(".experts.") != std::string::npos) << p.name;
    }
    EXPECT_EQ(stored, file.entries().size());
}

TEST(Parameters, SomeLayersAreDense) {
    Architecture arch = read_hf_config(test::fixture("qwen3-moe"));
    arch.layers = 4;
    arch.experts.sparse_step = 2;
    arch.experts.dense_layers = {3};
    std::vector<std::int64_t> sparse;
    for (std::int64_t i = 0; i < 4; ++i) {
        if (is_sparse(arch, i)) sparse.push_back(i);
    }
    EXPECT_EQ(sparse, (std::vector<std::int64_t>{1}));
    int routers = 0, dense = 0;
    for (const Parameter& p : parameters(arch)) {
        routers += p.router;
        dense += p.name.ends_with(".mlp.up_proj.weight");
    }
    EXPECT_EQ(routers, 1);
    EXPECT_EQ(dense, 3);
}

TEST(Parameters, CountsOfPublishedModels) {
    const Architecture gpt2{Family::gpt2, 50257, 768,   12, 12,   12,  64,
                            3072,         1024,  10000, {}, 1e-5, true};
    EXPECT_EQ(parameter_count(gpt2), 124'439'808);
    const Architecture llama2_7b{Family::llama, 32000, 4096, 32, 32, 32, 128, 11008, 4096};
    EXPECT_EQ(parameter_count(llama2_7b), 6'738'415'616);
    const Architecture qwen25_1b5{Family::qwen2, 151936, 1536, 28, 12,   2,   128,
                                  8960,          32768,  1e6,  {}, 1e-6, true};
    EXPECT_EQ(parameter_count(qwen25_1b5), 1'543'714'304);
    const Architecture qwen3_0b6{Family::qwen3, 151936, 1024, 28, 16,   8,   128,
                                 3072,          40960,  1e6,  {}, 1e-6, true};
    EXPECT_EQ(parameter_count(qwen3_0b6), 596'049'920);
    const Architecture qwen3_30b{Family::qwen3_moe,
                                 151936,
                                 2048,
                                 48,
                                 32,
                                 4,
                                 128,
                                 6144,
                                 40960,
                                 1e6,
                                 {},
                                 1e-6,
                                 false,
                                 {.count = 128, .per_token = 8, .intermediate_size = 768}};
    EXPECT_EQ(parameter_count(qwen3_30b), 30'532'122'624);
}

TEST(Parameters, MatricesDecayAndNothingElse) {
    const Architecture arch = read_hf_config(test::fixture("gpt2"));
    for (const Parameter& p : parameters(arch)) {
        const bool vector = p.name.ends_with(".bias") || p.name.find("ln_") != std::string::npos;
        EXPECT_EQ(p.decays(), !vector) << p.name;
    }
}

TEST(InitialValues, AreAFunctionOfSeedAndName) {
    const Parameter p{"model.layers.0.mlp.up_proj.weight", {64, 32}, Init::normal, 0.02};
    Parameter renamed = p;
    renamed.name = "model.layers.1.mlp.up_proj.weight";
    EXPECT_EQ(initial_values(p, 1), initial_values(p, 1));
    EXPECT_NE(initial_values(p, 1), initial_values(p, 2));
    EXPECT_NE(initial_values(p, 1), initial_values(renamed, 1));
    // A larger tensor begins with the same values.
    Parameter larger = p;
    larger.shape = {65, 32};
    auto more = initial_values(larger, 1);
    more.resize(64 * 32);
    EXPECT_EQ(more, initial_values(p, 1));
}

double deviation(const std::vector<float>& x) {
    double sum = 0, squares = 0;
    for (float v : x) sum += v, squares += double{v} * v;
    const auto n = static_cast<double>(x.size());
    EXPECT_NEAR(sum / n, 0, 5 * std::sqrt(squares / n / n));
    return std::sqrt(squares / n);
}

TEST(InitialValues, HaveTheDeviationOfTheirKind) {
    for (const char* family : {"llama", "gpt2"}) {
        const Architecture arch = read_hf_config(test::fixture(family));
        const double residual = 0.02 / std::sqrt(2.0 * static_cast<double>(arch.layers));
        for (const Parameter& p : parameters(arch)) {
            SCOPED_TRACE(p.name);
            const auto values = initial_values(p, 3);
            if (!p.decays()) {
                const float want = p.name.ends_with(".bias") ? 0.0f : 1.0f;
                EXPECT_EQ(std::ranges::count(values, want), std::ssize(values));
                continue;
            }
            const bool out = p.name.ends_with("o_proj.weight") ||
                             p.name.ends_with("down_proj.weight") ||
                             p.name.ends_with("c_proj.weight");
            const double want = out ? residual : p.name.ends_with("wpe.weight") ? 0.01 : 0.02;
            EXPECT_NEAR(deviation(values), want, 0.06 * want);
        }
    }
}

TEST(Architecture, FamiliesHaveNames) {
    for (const Family f :
         {Family::llama, Family::qwen2, Family::qwen3, Family::qwen3_moe, Family::gpt2}) {
        EXPECT_EQ(family_named(name(f)), f);
    }
    EXPECT_EQ(
        error_of([] { family_named("mamba"); }),
        "model family 'mamba' is not supported.\n  Supported: llama, qwen2, qwen3, qwen3_moe, "
        "gpt2.");
}

TEST(Architecture, ErrorsNameTheField) {
    const Architecture good = read_hf_config(test::fixture("llama3-rope"));
    check_architecture(good);
    const auto error = [&](auto change) {
        Architecture a = good;
        change(a);
        return error_of([&] { check_architecture(a); });
    };
    EXPECT_EQ(error([](auto& a) { a.layers = 0; }),
              "model: layers must be positive and below 2^31, got 0");
    EXPECT_EQ(error([](auto& a) { a.vocab_size = -5; }),
              "model: vocab_size must be positive and below 2^31, got -5");
    EXPECT_EQ(error([](auto& a) { a.kv_heads = 3; }),
              "model: heads must be a multiple of kv_heads, got 4 and 3");
    EXPECT_EQ(error([](auto& a) { a.head_dim = 5; }),
              "model: head_dim must be even for rotary embeddings, got 5");
    EXPECT_EQ(error([](auto& a) { a.norm_eps = 0; }), "model: norm_eps must be positive, got 0");
    EXPECT_EQ(error([](auto& a) { a.rope_theta = -1; }),
              "model: rope_theta must be positive, got -1");
    EXPECT_TRUE(contains(error([](auto& a) { a.rope_scaling.factor = 0; }),
                         "rope scaling llama3 needs a positive factor"));
    EXPECT_TRUE(contains(error([](auto& a) { a.rope_scaling.low_freq_factor = 4; }),
                         "low_freq_factor below high_freq_factor, got 8, 64, 4 and 4"));
    EXPECT_TRUE(contains(error([](auto& a) {
                             a.family = Family::gpt2;
                             a.kv_heads = 4;
                             a.head_dim = 8;
                         }),
                         "gpt2 needs hidden_size = heads * head_dim"));
}

}  // namespace
}  // namespace octavo
