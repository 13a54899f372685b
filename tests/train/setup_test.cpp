#include "train/setup.h"

#include "config/schema.h"
#include "io/scratch.h"
#include "train/far_backend.h"
#include "train/golden.h"

namespace octavo {
namespace {

RunConfig config() {
    RunConfig c;
    c.model.kv_heads = 2;
    c.model.head_dim = 64;
    c.model.intermediate_size = 700;
    return c;
}

TEST(Setup, ArchitectureComesFromTheConfigOrTheFolder) {
    const Architecture a = architecture_of(config());
    EXPECT_EQ(a.family, Family::llama);
    EXPECT_EQ(a.kv_heads, 2);
    EXPECT_EQ(a.intermediate_size, 700);
    EXPECT_EQ(describe(a), "llama, 8 layers of 256");

    RunConfig folder = config();
    folder.model.path = test::fixture("qwen3").string();
    EXPECT_EQ(architecture_of(folder), read_hf_config(test::fixture("qwen3")));

    RunConfig bad = config();
    bad.model.kv_heads = 3;
    EXPECT_TRUE(contains(error_of([&] { architecture_of(bad); }), "multiple of kv_heads"));
}

TEST(Setup, RecipeTakesItsSettings) {
    RunConfig c = config();
    c.recipe = {.name = "fp8-lm",
                .fp8_lm_head = true,
                .margin = 2,
                .history = 32,
                .scale_rounding = "exact"};
    const Recipe r = recipe_of(c);
    EXPECT_TRUE(r.quantise_head);
    EXPECT_EQ(r.window, 32);
    for (const auto& format : {r.activation, r.weight, r.output_grad}) {
        ASSERT_TRUE(format);
        EXPECT_EQ(format->margin, 2);
        EXPECT_EQ(format->rounding, ScaleRounding::exact);
    }
    c.recipe.name = "bf16";
    EXPECT_FALSE(recipe_of(c).activation);
}

TEST(Setup, OptimizerStatesTakeTheirFormats) {
    RunConfig c = config();
    EXPECT_EQ(recipe_of(c).states, StateFormats{});
    c.optimizer = {.master = "bf16", .gradient = "bf16", .m = "e4m3", .v = "f16"};
    const StateFormats want{Dtype::bf16, Dtype::bf16, Dtype::e4m3, Dtype::f16};
    EXPECT_EQ(recipe_of(c).states, want);
    c.optimizer.master = "f16";
    EXPECT_EQ(recipe_of(c).states.master, Dtype::f16);
    c.recipe.name = "fp32";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "optimizer.master: recipe fp32 computes in f32 and needs f32 masters, got f16");
}

TEST(Setup, LevelsSetTheStatesThatKeysDoNot) {
    RunConfig c = config();
    c.recipe.name = "fp8-lm";
    EXPECT_EQ(recipe_of(c).states, StateFormats{});
    EXPECT_TRUE(recipe_of(c).cache_weights);
    EXPECT_EQ(describe(c.recipe), "fp8-lm");
    c.recipe.level = "O1";
    EXPECT_EQ(describe(c.recipe), "fp8-lm O1");
    EXPECT_EQ(recipe_of(c).states, (StateFormats{Dtype::f16, Dtype::e4m3, Dtype::f32, Dtype::f32}));
    for (const char* level : {"O2", "O3"}) {
        c.recipe.level = level;
        EXPECT_EQ(recipe_of(c).states,
                  (StateFormats{Dtype::f16, Dtype::e4m3, Dtype::e4m3, Dtype::f16}));
    }
    c.optimizer = {.gradient = "bf16", .gradient_sum = "bf16", .v = "f32"};
    EXPECT_EQ(recipe_of(c).states,
              (StateFormats{Dtype::f16, Dtype::bf16, Dtype::e4m3, Dtype::f32, Dtype::bf16}));
    c.recipe.weight_cast = "per_forward";
    EXPECT_FALSE(recipe_of(c).cache_weights);
    c.recipe.level = "O4";
    EXPECT_EQ(error_of([&] { recipe_of(c); }), "recipe.level: expected O0, O1, O2 or O3, got 'O4'");
}

TEST(Setup, StepOptionsTakeTheirs) {
    RunConfig c = config();
    c.train.batch = 3;
    c.train.clip = 0.5;
    c.train.weight_decay = 0.25;
    c.runtime.recompute = "ffn";
    c.runtime.fuse = false;
    const StepOptions o = step_options_of(c);
    EXPECT_EQ(o.batch, 3);
    EXPECT_EQ(o.seq, 256);
    EXPECT_EQ(o.clip, 0.5f);
    EXPECT_EQ(o.adamw.weight_decay, 0.25f);
    EXPECT_EQ(o.recompute, Recompute::ffn);
    EXPECT_FALSE(o.fuse);
}

// config does not link what its choices name, so they are listed there again.
TEST(Setup, ChoicesOfTheSchemaAreThoseOfTheProgram) {
    EXPECT_EQ(find_key("recipe.name")->rule.choices, recipe_names());
    for (const std::string& family : find_key("model.family")->rule.choices) {
        EXPECT_EQ(name(family_named(family)), family);
    }
    for (const std::string& policy : find_key("runtime.recompute")->rule.choices) {
        EXPECT_NO_THROW(recompute_named(policy)) << policy;
    }
}

TEST(Setup, MemoryIsLimitedByTheConfigOrElseByTheBackend) {
    const FarBackend backend;
    RunConfig c = config();
    c.runtime.memory_limit_gb = 1.5;
    EXPECT_EQ(memory_limit(c, backend), 1'500'000'000);
    c.runtime.memory_limit_gb = 0;
    EXPECT_EQ(memory_limit(c, backend), backend.available_bytes());
}

}  // namespace
}  // namespace octavo
