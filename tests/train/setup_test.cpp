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
    c.recipe = {.name = "bf16"};
    EXPECT_FALSE(recipe_of(c).activation);
}

TEST(Setup, MossTakesItsSettings) {
    RunConfig c = config();
    c.recipe.name = "moss";
    Recipe r = recipe_of(c);
    for (const auto& format : {r.activation, r.output_grad}) {
        ASSERT_TRUE(format);
        EXPECT_EQ(*format, (Format{.dtype = Dtype::e4m3,
                                   .granularity = Granularity::micro,
                                   .rounding = ScaleRounding::exact,
                                   .group = 32}));
    }
    EXPECT_EQ(*r.weight, (Format{.dtype = Dtype::e4m3,
                                 .provider = Provider::predicted,
                                 .rounding = ScaleRounding::exact}));
    EXPECT_EQ(r.prediction, (Prediction{adam_bound(0.9, 0.95), 500}));

    c.recipe.group = 128;
    c.recipe.global_scale = "tensor";
    c.recipe.gradient = "e5m2";
    c.recipe.bound = "paper";
    c.recipe.interval = 100;
    r = recipe_of(c);
    for (const auto& format : {r.activation, r.output_grad}) {
        EXPECT_EQ(format->group, 128);
        EXPECT_TRUE(format->global);
    }
    EXPECT_EQ(r.activation->dtype, Dtype::e4m3);
    EXPECT_EQ(r.output_grad->dtype, Dtype::e5m2);
    EXPECT_EQ(r.prediction, (Prediction{1, 100}));

    c.recipe = {.name = "moss", .weight_scale = "measured"};
    r = recipe_of(c);
    EXPECT_EQ(r.weight->provider, Provider::recorded);
    EXPECT_FALSE(predicts_scales(r));
}

TEST(Setup, BlockwiseTakesItsSettings) {
    RunConfig c = config();
    c.recipe.name = "blockwise";
    EXPECT_EQ(recipe_of(c).output_grad->dtype, Dtype::e4m3);
    c.recipe.scale_rounding = "pow2";
    c.recipe.gradient = "e5m2";
    const Recipe r = recipe_of(c);
    EXPECT_EQ(*r.activation, (Format{.dtype = Dtype::e4m3,
                                     .granularity = Granularity::block_1x128,
                                     .rounding = ScaleRounding::pow2,
                                     .floor = 1e-10f}));
    EXPECT_EQ(*r.weight, (Format{.dtype = Dtype::e4m3,
                                 .granularity = Granularity::block_128x128,
                                 .provider = Provider::recorded,
                                 .rounding = ScaleRounding::pow2,
                                 .floor = 1e-10f}));
    EXPECT_EQ(*r.output_grad, (Format{.dtype = Dtype::e5m2,
                                      .granularity = Granularity::block_1x128,
                                      .rounding = ScaleRounding::pow2,
                                      .floor = 0x1p-100f}));
}

TEST(Setup, Fp8LmMayPredictItsWeightScales) {
    RunConfig c = config();
    c.recipe = {.name = "fp8-lm", .weight_scale = "predicted", .interval = 50};
    c.train.beta2 = 0.999;
    const Recipe r = recipe_of(c);
    EXPECT_EQ(*r.weight, (Format{.dtype = Dtype::e4m3,
                                 .provider = Provider::predicted,
                                 .rounding = ScaleRounding::pow2}));
    EXPECT_EQ(r.activation->provider, Provider::delayed);
    EXPECT_EQ(r.prediction, (Prediction{adam_bound(0.9, 0.999), 50}));
}

TEST(Setup, ActivationsMayHaveScalesOfTheirOwnAmax) {
    for (const char* name : {"fp8-lm", "smooth-swiglu"}) {
        RunConfig c = config();
        c.recipe = {.name = name, .margin = 1, .activation_scale = "current"};
        const Recipe r = recipe_of(c);
        EXPECT_EQ(r.activation->provider, Provider::current);
        EXPECT_EQ(r.output_grad->provider, Provider::current);
        EXPECT_EQ(r.output_grad->margin, 1);
        EXPECT_EQ(r.weight->provider, Provider::recorded);
        c.recipe.level = "O2";
        EXPECT_EQ(recipe_of(c).states.m, Dtype::e4m3);
        c.recipe.weight_cast = "per_forward";
        EXPECT_FALSE(recipe_of(c).cache_weights);
        c.recipe.level = "O0";
        c.smooth.granularity = "token";
        c.smooth.source = "delayed";
        EXPECT_EQ(error_of([&] { recipe_of(c); }),
                  "smooth.source: recipe.activation_scale is current, which leaves no scales of "
                  "past steps\n  Leave it out.");
    }
}

TEST(Setup, ScalifyRunsAreThePapers) {
    RunConfig c = config();
    c.recipe.name = "scalify";
    const auto states = [](Dtype master, Dtype gradient, Dtype moments) {
        return StateFormats{master, gradient, moments, moments};
    };
    const StateFormats want[] = {
        states(Dtype::f32, Dtype::f16, Dtype::f32), states(Dtype::f16, Dtype::f16, Dtype::f32),
        states(Dtype::f16, Dtype::e5m2, Dtype::f32), states(Dtype::f16, Dtype::e5m2, Dtype::f16)};
    for (int run = 1; run <= 4; ++run) {
        c.recipe.run = run;
        const Recipe r = recipe_of(c);
        EXPECT_EQ(r.states, want[run - 1]) << run;
        EXPECT_EQ(r.activation.has_value(), run > 2) << run;
        EXPECT_EQ(r.propagation->rescale_norms, run > 1) << run;
        EXPECT_EQ(r.propagation->rescale_weight_gradients, run > 3) << run;
        EXPECT_EQ(r.compute, Dtype::f16);
    }
}

TEST(Setup, ScalifyRunZeroIsPlainF32) {
    RunConfig c = config();
    c.recipe = {.name = "scalify", .run = 0};
    const Recipe r = recipe_of(c);
    EXPECT_EQ(r.name, "scalify");
    EXPECT_EQ(r.compute, Dtype::f32);
    EXPECT_FALSE(r.activation || r.weight || r.output_grad || r.propagation);
    EXPECT_EQ(r.states, StateFormats{});
}

TEST(Setup, ScalifyTakesSingleKeys) {
    RunConfig c = config();
    c.recipe = {.name = "scalify",
                .run = 4,
                .compute = "bf16",
                .matmul = "compute",
                .rescale = "norm",
                .statistic = "max",
                .norm_eps = "data",
                .attention_rebalance = false,
                .state_rescale = 100};
    EXPECT_FALSE(recipe_of(c).propagation->scales.nan_casts);
    c.recipe.cast = "nan";
    EXPECT_TRUE(recipe_of(c).propagation->scales.nan_casts);
    c.recipe.cast = "saturate";
    c.optimizer.gradient = "f16";
    c.optimizer.m = "f32";
    const Recipe r = recipe_of(c);
    EXPECT_EQ(r.compute, Dtype::bf16);
    EXPECT_FALSE(r.activation || r.weight || r.output_grad);
    EXPECT_TRUE(r.propagation->rescale_norms);
    EXPECT_FALSE(r.propagation->rescale_weight_gradients);
    EXPECT_EQ(r.propagation->statistic, Statistic::max);
    EXPECT_FALSE(r.propagation->scales.exact_eps);
    EXPECT_FALSE(r.propagation->scales.rebalance_attention);
    EXPECT_EQ(r.propagation->state_rescale, 100);
    EXPECT_EQ(r.states, (StateFormats{Dtype::f16, Dtype::f16, Dtype::f32, Dtype::f16}));
    c.recipe.run = 1;
    c.recipe.matmul = "fp8";
    c.recipe.gradient = "e4m3";
    EXPECT_EQ(recipe_of(c).output_grad->dtype, Dtype::e4m3);
}

TEST(Setup, OptionsThatARecipeHasNoUseForAreRefused) {
    using R = RunConfig::Recipe;
    const std::vector<std::pair<R, std::string>> refused = {
        {{.name = "fp8-lm", .group = 64}, "group: recipe fp8-lm has no micro groups"},
        {{.name = "blockwise", .global_scale = "row"},
         "global_scale: recipe blockwise has no micro groups"},
        {{.name = "blockwise", .weight_scale = "predicted"},
         "weight_scale: recipe blockwise has no weights under one scale"},
        {{.name = "bf16", .weight_scale = "measured"},
         "weight_scale: recipe bf16 has no weights under one scale"},
        {{.name = "fp8-lm", .bound = "paper"}, "bound: recipe fp8-lm predicts no scales"},
        {{.name = "moss", .weight_scale = "measured", .interval = 100},
         "interval: recipe moss predicts no scales"},
        {{.name = "bf16", .margin = 1},
         "margin: recipe bf16 has no delayed scales to leave room in"},
        {{.name = "moss", .margin = 1},
         "margin: recipe moss has no delayed scales to leave room in"},
        {{.name = "blockwise", .history = 8}, "history: recipe blockwise has no delayed scales"},
        {{.name = "moss", .activation_scale = "current"},
         "activation_scale: recipe moss has no delayed scales to do without"},
        {{.name = "fp8-lm", .history = 8, .activation_scale = "current"},
         "history: recipe fp8-lm has no delayed scales where recipe.activation_scale is current"},
        {{.name = "fp8-lm", .fp8_lm_head = true, .activation_scale = "current"},
         "fp8_lm_head: recipe fp8-lm has delayed scales in the head, which recipe.activation_scale "
         "= "
         "current is not"},
        {{.name = "blockwise", .fp8_lm_head = true},
         "fp8_lm_head: recipe blockwise has no head in 8 bits"},
        {{.name = "bf16", .bf16 = {"down_proj"}}, "bf16: recipe bf16 has no products in 8 bits"},
        {{.name = "scalify", .bf16 = {"down_proj"}, .run = 2},
         "bf16: recipe scalify has no products in 8 bits"},
        {{.name = "bf16", .gradient = "e4m3"},
         "gradient: recipe bf16 keeps output gradients unscaled"},
        {{.name = "moss", .grad_rounding = "stochastic"},
         "grad_rounding: recipe moss has no output gradients under one scale"},
        {{.name = "bf16", .grad_rounding = "stochastic"},
         "grad_rounding: recipe bf16 has no output gradients under one scale"},
        {{.name = "blockwise", .grad_rounding = "stochastic"},
         "grad_rounding: recipe blockwise has no output gradients under one scale"},
        {{.name = "scalify", .grad_rounding = "stochastic"},
         "grad_rounding: recipe scalify has no output gradients under one scale"},
        {{.name = "fp8-lm", .run = 2}, "run: recipe fp8-lm does not propagate scales"},
        {{.name = "bf16", .rescale = "norm"}, "rescale: recipe bf16 does not propagate scales"},
        {{.name = "moss", .attention_rebalance = false},
         "attention_rebalance: recipe moss does not propagate scales"},
        {{.name = "scalify", .scale_rounding = "pow2"},
         "scale_rounding: recipe scalify has no scales but powers of two"},
        {{.name = "scalify", .scale_rounding = "pow2", .run = 0},
         "scale_rounding: recipe scalify has no scales but powers of two"},
        {{.name = "scalify", .gradient = "e4m3", .run = 0},
         "gradient: recipe scalify quantises nothing in run 0"},
        {{.name = "scalify", .gradient = "e4m3", .run = 1},
         "gradient: recipe scalify quantises nothing in run 1"},
        {{.name = "scalify", .run = 0, .compute = "bf16"},
         "compute: recipe scalify does not propagate scales in run 0"},
        {{.name = "scalify", .run = 0, .matmul = "fp8"},
         "matmul: recipe scalify does not propagate scales in run 0"},
        {{.name = "scalify", .run = 0, .rescale = "norm"},
         "rescale: recipe scalify does not propagate scales in run 0"},
        {{.name = "scalify", .run = 0, .statistic = "max"},
         "statistic: recipe scalify does not propagate scales in run 0"},
        {{.name = "scalify", .run = 0, .norm_eps = "data"},
         "norm_eps: recipe scalify does not propagate scales in run 0"},
        {{.name = "scalify", .run = 0, .attention_rebalance = false},
         "attention_rebalance: recipe scalify does not propagate scales in run 0"},
        {{.name = "scalify", .bf16 = {"down_proj"}, .run = 0},
         "bf16: recipe scalify has no products in 8 bits"},
        {{.name = "scalify", .rescale = "norm+wgrad"},
         "rescale: recipe scalify measures weight gradients for the bounds of moments under a "
         "scale, optimizer.m is f32 and v is f32"},
        {{.name = "scalify", .run = 0, .cast = "nan"},
         "cast: recipe scalify does not propagate scales in run 0"},
        {{.name = "scalify", .run = 2, .cast = "nan"},
         "cast: recipe scalify casts nothing to 8 bits in run 2"},
        {{.name = "moss", .cast = "nan"}, "cast: recipe moss does not propagate scales"},
        {{.name = "fp8-lm", .state_rescale = 10},
         "state_rescale: recipe fp8-lm does not propagate scales"},
        {{.name = "scalify", .run = 0, .state_rescale = 10},
         "state_rescale: recipe scalify does not propagate scales in run 0"},
        {{.name = "scalify", .history = 8}, "history: recipe scalify has no delayed scales"},
        {{.name = "scalify", .weight_scale = "measured"},
         "weight_scale: recipe scalify has no weights under one scale"},
        {{.name = "scalify", .group = 32}, "group: recipe scalify has no micro groups"},
        {{.name = "moss", .scale_rounding = "pow2"},
         "scale_rounding: recipe moss has powers of two below exact scales"},
        {{.name = "blockwise", .level = "O1"},
         "level: recipe blockwise has none of fp8-lm's levels; optimizer.master, gradient, m and v "
         "set such states"},
        {{.name = "moss", .weight_cast = "per_forward"},
         "weight_cast: recipe moss has no weights to cast in every pass, as fp8-lm does"}};
    for (const auto& [recipe, message] : refused) {
        RunConfig c = config();
        c.recipe = recipe;
        EXPECT_EQ(error_of([&] { recipe_of(c); }), "recipe." + message + "\n  Leave it out.");
    }
    RunConfig c = config();
    c.recipe = {.name = "scalify", .run = 1, .rescale = "norm+wgrad"};
    c.optimizer.v = "f16";
    EXPECT_TRUE(recipe_of(c).propagation->rescale_weight_gradients);
    c = config();
    c.recipe = {.name = "moss", .group = 48};
    EXPECT_EQ(error_of([&] { recipe_of(c); }), "recipe.group: expected 32, 64 or 128, got 48");
    c.recipe = {.name = "moss"};
    c.train.beta1 = 0.95;
    c.train.beta2 = 0.9;
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "predicted scales need train.beta1^2 < train.beta2, got 0.95 and 0.9\n"
              "  Nothing bounds AdamW's steps otherwise: take measured scales.");
    c.recipe.weight_scale = "measured";
    EXPECT_NO_THROW(recipe_of(c));
}

TEST(Setup, LayersStayInBf16ByName) {
    RunConfig c = config();
    for (const char* recipe : {"fp8-lm", "smooth-swiglu", "moss", "blockwise"}) {
        c.recipe = {.name = recipe, .bf16 = {"down_proj", "layers.0"}};
        const Recipe r = step_options_of(c).recipe;
        EXPECT_FALSE(r.quantises("model.layers.0.mlp.up_proj")) << recipe;
        EXPECT_FALSE(r.quantises("model.layers.3.mlp.down_proj")) << recipe;
        EXPECT_TRUE(r.quantises("model.layers.3.mlp.up_proj")) << recipe;
    }
    c.recipe = {
        .name = "fp8-lm", .level = "O2", .fp8_lm_head = true, .bf16 = {"q_proj", "lm_head"}};
    EXPECT_EQ(describe(c.recipe), "fp8-lm O2, q_proj, lm_head in bf16");
    EXPECT_FALSE(step_options_of(c).recipe.quantises("lm_head"));
    c.recipe.bf16.clear();
    EXPECT_TRUE(step_options_of(c).recipe.quantises("lm_head"));

    c.recipe = {.name = "moss", .bf16 = {"down_proj", "down"}};
    EXPECT_EQ(
        error_of([&] { step_options_of(c); }),
        "recipe.bf16: the model has no Linear layer 'down'\n"
        "  Layers: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head. With "
        "the blocks' numbers, from model.layers.0.self_attn.q_proj to "
        "model.layers.7.mlp.down_proj.");
    // Norms, embeddings and routers are no Linear layers.
    for (const char* name : {"norm", "embed_tokens", "layers.8", "gate", ""}) {
        c.recipe.bf16 = {name};
        EXPECT_TRUE(error_of([&] { step_options_of(c); }).starts_with("recipe.bf16: ")) << name;
    }
    c.recipe = {.name = "scalify", .bf16 = {"down_proj"}};
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "recipe.bf16: recipe scalify computes in f16\n  Set recipe.compute = \"bf16\", too.");
    c.recipe.compute = "bf16";
    EXPECT_EQ(recipe_of(c).in_compute, c.recipe.bf16);
}

TEST(Setup, OutputGradientsMayBeRoundedAtRandom) {
    RunConfig c = config();
    c.train.seed = 7;
    for (const char* recipe : {"fp8-lm", "smooth-swiglu"}) {
        c.recipe = {.name = recipe};
        EXPECT_FALSE(recipe_of(c).gradient_noise);
        c.recipe.grad_rounding = "stochastic";
        EXPECT_EQ(recipe_of(c).gradient_noise, 7u);
    }
    c.recipe.fp8_lm_head = true;
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "recipe.grad_rounding: expected nearest with recipe.fp8_lm_head, whose gradients are "
              "quantised a chunk of rows at a time, got stochastic");
}

TEST(Setup, OptimizerStatesTakeTheirFormats) {
    RunConfig c = config();
    EXPECT_EQ(recipe_of(c).states, StateFormats{});
    c.optimizer = {.master = "bf16", .gradient = "bf16", .m = "e4m3", .v = "f16"};
    const StateFormats want{Dtype::bf16, Dtype::bf16, Dtype::e4m3, Dtype::f16};
    EXPECT_EQ(recipe_of(c).states, want);
    c.optimizer.master = "f16";
    EXPECT_EQ(recipe_of(c).states.master, Dtype::f16);
    c.optimizer.master = "e4m3";
    for (const char* recipe : {"bf16", "fp8-lm", "moss", "blockwise", "smooth-swiglu"}) {
        c.recipe.name = recipe;
        EXPECT_EQ(recipe_of(c).states.master, Dtype::e4m3) << recipe;
        EXPECT_EQ(recipe_of(c).table_states().master, Dtype::f32) << recipe;
    }
    c.recipe.name = "scalify";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "optimizer.master: recipe scalify keeps masters in f32, bf16 or f16, got e4m3");
    c.optimizer.master = "f16";
    c.recipe.name = "fp32";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "optimizer.master: recipe fp32 computes in f32 and needs f32 masters, got f16");
}

TEST(Setup, SmoothSwiGluTakesItsSettings) {
    RunConfig c = config();
    c.recipe.name = "smooth-swiglu";
    Recipe r = recipe_of(c);
    const Format current{.dtype = Dtype::e4m3, .provider = Provider::current};
    EXPECT_EQ(r.smooth, (Smooth{.hidden = current}));
    EXPECT_EQ(r.activation->provider, Provider::delayed);
    EXPECT_EQ(r.states, (StateFormats{Dtype::f16, Dtype::f32, Dtype::e4m3, Dtype::e5m2}));

    c.smooth = {.granularity = "channel", .rounding = "exact", .source = "delayed"};
    c.recipe.margin = 1;
    r = recipe_of(c);
    EXPECT_EQ(r.smooth, (Smooth{Axis::column, ScaleRounding::exact, *r.activation}));
    EXPECT_EQ(r.smooth->hidden.margin, 1);
    c.smooth = {.granularity = "off"};
    EXPECT_FALSE(recipe_of(c).smooth);

    // Other recipes, on request.
    for (const char* name : {"fp8-lm", "moss", "blockwise"}) {
        c = config();
        c.recipe.name = name;
        EXPECT_FALSE(recipe_of(c).smooth);
        c.smooth.granularity = "token";
        r = recipe_of(c);
        Format hidden = *r.activation;
        hidden.provider = Provider::current;
        EXPECT_EQ(r.smooth, Smooth{.hidden = hidden}) << name;
    }
}

TEST(Setup, SmoothSwiGluIsRefusedWhereItMeansNothing) {
    const auto refused = [](const char* recipe, const RunConfig::Smooth& smooth,
                            const std::string& family = "llama") {
        RunConfig c = config();
        c.recipe.name = recipe;
        c.smooth = smooth;
        c.model.family = family;
        return error_of([&] { step_options_of(c); });
    };
    EXPECT_EQ(refused("bf16", {.granularity = "token"}),
              "smooth.granularity: recipe bf16 quantises no activations\n  Leave it out.");
    EXPECT_EQ(refused("fp8-lm", {.rounding = "exact"}),
              "smooth.rounding: there is no Smooth-SwiGLU\n  Leave it out.");
    EXPECT_EQ(refused("smooth-swiglu", {.granularity = "off", .source = "delayed"}),
              "smooth.source: there is no Smooth-SwiGLU\n  Leave it out.");
    EXPECT_EQ(refused("moss", {.granularity = "channel", .source = "delayed"}),
              "smooth.source: recipe moss has no delayed scales\n  Leave it out.");
    RunConfig c = config();
    c.model = {.family = "gpt2", .kv_heads = 4, .head_dim = 64, .intermediate_size = 1024};
    c.recipe.name = "smooth-swiglu";
    EXPECT_EQ(error_of([&] { step_options_of(c); }),
              "smooth.granularity: Smooth-SwiGLU needs a model with SwiGLU, got family gpt2\n"
              "  Take another recipe, or set smooth.granularity = \"off\".");
}

TEST(Setup, MomentsTakeTheirOptions) {
    RunConfig c = config();
    c.recipe.name = "smooth-swiglu";
    c.train.seed = 7;
    AdamW op = step_options_of(c).adamw;
    EXPECT_TRUE(op.v_floor);
    EXPECT_FALSE(op.sqrt_v || op.stochastic_moments);
    EXPECT_EQ(op.scale_rounding, ScaleRounding::exact);
    c.optimizer.v_floor = false;
    c.optimizer.v_storage = "sqrt_v";
    c.optimizer.moment_rounding = "stochastic";
    c.optimizer.moment_scale = "pow2";
    op = step_options_of(c).adamw;
    EXPECT_FALSE(op.v_floor);
    EXPECT_TRUE(op.sqrt_v && op.stochastic_moments);
    EXPECT_EQ(op.seed, 7u);
    EXPECT_EQ(op.scale_rounding, ScaleRounding::pow2);
    EXPECT_EQ(recipe_of(c).states.v, Dtype::e4m3);
    c.optimizer.v = "e5m2";
    EXPECT_EQ(recipe_of(c).states.v, Dtype::e5m2);
    c.optimizer.v = "f32";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "optimizer.v_storage: only second moments in e4m3 or e5m2 are kept as roots, "
              "optimizer.v is f32\n  Leave it out.");
    c = config();
    c.optimizer.moment_rounding = "stochastic";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "optimizer.moment_rounding: no moment has a scale, optimizer.m is f32 and v is f32\n"
              "  Leave it out.");
    c.optimizer = {.v_floor = false};
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "optimizer.v_floor: only second moments in e4m3 or e5m2 have a floor, optimizer.v is "
              "f32\n  Leave it out.");
    c.optimizer = {.moment_scale = "pow2"};
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "optimizer.moment_scale: no moment has a scale, optimizer.m is f32 and v is f32\n"
              "  Leave it out.");
}

TEST(Setup, MomentsMayBeExpanded) {
    RunConfig c = config();
    for (const std::string& recipe : recipe_names()) {
        c.recipe.name = recipe;
        c.optimizer = {.m = "expanded", .v = "expanded"};
        const Recipe r = recipe_of(c);
        EXPECT_EQ(r.states.m, kExpandedMoment) << recipe;
        EXPECT_EQ(r.states.v, kExpandedMoment) << recipe;
        EXPECT_EQ(r.table_states().m, Dtype::bf16) << recipe;
        c.optimizer = {.m = "expanded"};
        EXPECT_NO_THROW(recipe_of(c)) << recipe;
    }
    // They have no one scale, no floor and no need of a root.
    c.recipe.name = "bf16";
    const auto refused = [&](RunConfig::Optimizer o) {
        o.m = o.v = "expanded";
        c.optimizer = o;
        return error_of([&] { recipe_of(c); });
    };
    EXPECT_EQ(refused({.v_storage = "sqrt_v"}),
              "optimizer.v_storage: only second moments in e4m3 or e5m2 are kept as roots, "
              "optimizer.v is expanded\n  Leave it out.");
    EXPECT_EQ(refused({.v_floor = false}),
              "optimizer.v_floor: only second moments in e4m3 or e5m2 have a floor, optimizer.v is "
              "expanded\n  Leave it out.");
    EXPECT_EQ(refused({.moment_rounding = "stochastic"}),
              "optimizer.moment_rounding: no moment has a scale, optimizer.m is expanded and v is "
              "expanded\n  Leave it out.");
    EXPECT_EQ(refused({.moment_scale = "pow2"}),
              "optimizer.moment_scale: no moment has a scale, optimizer.m is expanded and v is "
              "expanded\n  Leave it out.");
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
    EXPECT_EQ(
        error_of([&] { recipe_of(c); }),
        "recipe.weight_cast: expected cached at level O3, whose working weights are E4M3, got "
        "per_forward\n  Level O2 has the same masters, gradients and moments without them.");
    c.recipe.level = "O2";
    EXPECT_FALSE(recipe_of(c).cache_weights);
    c.recipe.weight_cast = "cached";
    c.recipe.level = "O4";
    EXPECT_EQ(error_of([&] { recipe_of(c); }), "recipe.level: expected O0, O1, O2 or O3, got 'O4'");
}

TEST(Setup, ChannelsMayTakeFactorsOfTheStepBefore) {
    RunConfig c = config();
    c.recipe.name = "smooth-swiglu";
    c.smooth = {.granularity = "channel", .channel_update = "step"};
    EXPECT_TRUE(recipe_of(c).smooth->in_state());
    c.recipe.weight_cast = "per_forward";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "recipe.weight_cast: expected cached with smooth.channel_update = \"step\", which is "
              "for casting down projections once a step, got per_forward");
    c.recipe.weight_cast = "cached";
    c.smooth.granularity = "token";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "smooth.channel_update: factors are those of tokens, which are of one micro-batch\n"
              "  Leave it out.");
    c.recipe.name = "fp8-lm";
    c.smooth.granularity = "auto";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "smooth.channel_update: there is no Smooth-SwiGLU\n  Leave it out.");
}

TEST(Setup, ChannelsMayKeepTheirFactorsForExport) {
    RunConfig c = config();
    c.recipe.name = "smooth-swiglu";
    EXPECT_EQ(recipe_of(c).smooth->export_window, 0);
    c.smooth = {.granularity = "channel", .export_window = 50};
    EXPECT_EQ(recipe_of(c).smooth->export_window, 50);
    step_options_of(c);
    c.recipe.bf16 = {"down_proj"};
    EXPECT_EQ(error_of([&] { step_options_of(c); }),
              "smooth.export_window: recipe.bf16 leaves no layer to smooth\n  Leave it out.");
    c.recipe.bf16 = {};
    RunConfig experts = c;
    experts.model.family = "qwen3_moe";
    experts.model.num_experts = 4;
    experts.model.num_experts_per_tok = 2;
    experts.model.moe_intermediate_size = 64;
    EXPECT_EQ(error_of([&] { step_options_of(experts); }),
              "smooth.export_window: channels of experts are not folded into weights\n  Leave it "
              "out.");
    c.smooth.granularity = "token";
    EXPECT_EQ(
        error_of([&] { recipe_of(c); }),
        "smooth.export_window: factors are those of tokens, and only those of channels can be "
        "exported\n  Leave it out.");
    c.recipe.name = "fp8-lm";
    c.smooth.granularity = "auto";
    EXPECT_EQ(error_of([&] { recipe_of(c); }),
              "smooth.export_window: there is no Smooth-SwiGLU\n  Leave it out.");
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

TEST(Setup, BlockRuleIsForRecipesWithBlocks) {
    RunConfig c = config();
    c.recipe = {.name = "blockwise", .block_rule = "te"};
    const Recipe r = recipe_of(c);
    for (const auto& format : {r.activation, r.weight, r.output_grad}) {
        EXPECT_EQ(format->block_rule, BlockRule::te);
    }
    for (const char* other : {"bf16", "fp8-lm", "moss", "smooth-swiglu", "scalify"}) {
        c.recipe.name = other;
        EXPECT_EQ(
            error_of([&] { recipe_of(c); }),
            fmt::format("recipe.block_rule: recipe {} has no scales of blocks\n  Leave it out.",
                        other));
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
