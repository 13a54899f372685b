// A model exported to FP8 holds exactly what the engine used.
#include <bit>
#include <map>

#include "base/float16.h"
#include "base/float8.h"
#include "base/weight_blocks.h"
#include "engine/engine_testing.h"
#include "io/scratch.h"
#include "models/convert_model.h"
#include "models/experts.h"
#include "models/random_model.h"
#include "models/stored_weights.h"
#include "passes/join_products.h"

namespace octavo {
namespace {

constexpr Architecture kLlama{.family = Family::llama,
                              .vocab_size = 64,
                              .hidden_size = 256,
                              .layers = 2,
                              .heads = 4,
                              .kv_heads = 4,
                              .head_dim = 64,
                              .intermediate_size = 384,
                              .max_positions = 64};

struct Model {
    std::string name;
    Architecture architecture;
    std::size_t quantised;
    std::vector<std::string> in_bf16 = {};
};

std::vector<Model> models() {
    std::vector<Model> all{{"Whole", kLlama, 2 * 7}};
    // k and v of 64 rows, and q with them.
    all.push_back({"FewKeys", kLlama, 2 * 4});
    all.back().architecture.kv_heads = 1;
    // The second layer is dense, and its sizes are no multiples of blocks.
    all.push_back({"Experts", kLlama, 2 * 4 + 4 * 3});
    Architecture& moe = all.back().architecture;
    moe.family = Family::qwen3_moe;
    moe.intermediate_size = 320;
    moe.experts = {.count = 4, .per_token = 2, .intermediate_size = 128, .dense_layers = {1}};
    // No layer of attention or FFN.
    all.push_back({"None", kLlama, 0});
    all.back().architecture.hidden_size = 192;
    // Named layers, and what is joined to them: gates; q and v of the first layer.
    all.push_back({"Named", kLlama, 2 * 7 - 2 * 2 - 3, {"up_proj", "layers.0.self_attn.k_proj"}});
    return all;
}

// Blocks whose amax is below the floor: of zeros in up projections, of almost nothing in down. And
// routers of bf16, as models are published: the engine has them in f32, an export in bf16.
void make_small_blocks(const std::string& name, const Shape& shape, std::span<float> x) {
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
        if (name.ends_with("mlp.gate.weight")) x[i] = static_cast<float>(bf16(x[i]));
        const bool top = i / shape.last() < 128, left = i % shape.last() < 128;
        if (name.ends_with("up_proj.weight") && top && !left) x[i] = 0;
        if (name.ends_with("down_proj.weight") && !top && left) x[i] *= 1e-12f;
    }
}

WeightSource folder(const std::filesystem::path& path) {
    return [path](std::span<const WeightTarget> weights) { load_weights(path, weights); };
}

// What a working weight stands for, of each of the matrices that folders have.
std::map<std::string, std::vector<float>> decoded(const State& state, const std::string& name,
                                                  const Architecture& arch) {
    const Type& type = state.at(name).type;
    std::vector<std::byte> parts(static_cast<std::size_t>(total_bytes(type)));
    state.read_all_parts(name, parts.data());
    const TensorRef t = tensor_at(type, parts.data());
    const ScaleLayout layout = scale_layout(type);
    std::vector<float> values;
    for (std::int64_t i = 0; i < type.shape.rows(); ++i) {
        for (std::int64_t j = 0; j < type.shape.last(); ++j) {
            const std::int64_t at = i * type.shape.last() + j;
            values.push_back(type.dtype == Dtype::bf16 ? static_cast<float>(t.as<bf16>()[at])
                                                       : static_cast<float>(t.as<e4m3>()[at]) *
                                                             t.scales()[layout.scale_at(i, j)]);
        }
    }
    std::map<std::string, std::vector<float>> matrices;
    std::size_t begin = 0;
    for (const std::string& part : joined_parts(parameter_of(name))) {
        const auto all = parameters(arch);
        const auto p = std::ranges::find(all, part, &Parameter::name);
        for (const StoredParameter& s : stored_parameters(part, p->shape)) {
            const auto first = values.begin() + static_cast<std::ptrdiff_t>(begin);
            matrices[s.name].assign(first, first + s.shape.elements());
            begin += static_cast<std::size_t>(s.shape.elements());
        }
    }
    EXPECT_EQ(begin, values.size()) << name;
    return matrices;
}

class Fp8Export : public testing::TestWithParam<Model> {};

TEST_P(Fp8Export, IsWhatTheEngineUses) {
    const auto& [name, arch, quantised, in_bf16] = GetParam();
    const Scratch scratch;
    test::write_random_model(scratch / "model", arch, make_small_blocks);
    const auto converted = convert_model({.model = scratch / "model",
                                          .out = scratch / "fp8",
                                          .form = WeightForm::fp8,
                                          .in_bf16 = in_bf16});
    EXPECT_EQ(converted.quantised, quantised);
    const auto backend = test::make_test_backend();
    Recipe recipe = recipe_named("blockwise");
    recipe.in_compute = in_bf16;
    Engine engine(*backend, arch, recipe, {.max_seqs = 2});
    engine.load(folder(scratch / "model"));
    const State& state = engine.program().state();
    const TextRequest request{.prompt = {1, 2, 3, 4, 5}, .max_tokens = 20};
    const auto made = test::generate(engine, {request});

    // What is in FP8 here is so there, and what is in bf16.
    const StoredWeights stored(scratch / "fp8");
    std::size_t codes = 0;
    double bytes = 0, elements = 0;
    for (const State::Entry& e : state.entries()) {
        const bool coded = state_role(e.name) == "work.e4m3";
        if (!coded && state_role(e.name) != "work.bf16") continue;
        for (const auto& [matrix, values] : decoded(state, e.name, arch)) {
            const auto weight = stored.find(matrix);
            ASSERT_TRUE(weight) << matrix;
            EXPECT_EQ(weight->scale.has_value(), coded) << matrix;
            std::vector<float> want(static_cast<std::size_t>(weight->tensor.shape.elements()));
            weight->read(want);
            EXPECT_EQ(values, want) << matrix;
            codes += coded;
        }
        if (!coded) continue;
        elements += static_cast<double>(e.type.shape.elements());
        bytes += static_cast<double>(data_bytes(e.type)) +
                 4 * static_cast<double>(e.type.shape.elements()) / (128 * 128);
    }
    EXPECT_EQ(codes, quantised);
    // And an engine that reads the export has the same codes, and the same texts.
    engine.load(folder(scratch / "fp8"));
    EXPECT_EQ(test::generate(engine, {request}), made);
    if (quantised > 0) {
        EXPECT_NEAR(bytes / (2 * elements), 0.50012, 1e-5);  // against bf16
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Fp8Export, testing::ValuesIn(models()),
                         [](const auto& param_info) { return param_info.param.name; });

// One scale for a weight: MOSS's, before any step.
TEST(Fp8ExportOfTensors, IsWhatMossUses) {
    const Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    const auto converted = convert_model(
        {.model = scratch / "model", .out = scratch / "fp8", .form = WeightForm::fp8_tensor});
    const auto backend = test::make_test_backend();
    Engine engine(*backend, kLlama, recipe_named("moss"), {.max_seqs = 2});
    engine.load(folder(scratch / "model"));
    const State& state = engine.program().state();
    const StoredWeights stored(scratch / "fp8");
    std::size_t compared = 0;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "work.e4m3") continue;
        for (const auto& [matrix, values] : decoded(state, e.name, kLlama)) {
            const auto weight = stored.find(matrix);
            ASSERT_TRUE(weight && weight->scale) << matrix;
            std::vector<float> want(static_cast<std::size_t>(weight->tensor.shape.elements()));
            weight->read(want);
            EXPECT_EQ(values, want) << matrix;
            ++compared;
        }
    }
    EXPECT_EQ(compared, converted.quantised);
}

TEST(Fp8ExportBlocks, HaveOneFloor) {
    const Scratch scratch;
    test::write_random_model(scratch / "model", kLlama, make_small_blocks);
    convert_model({.model = scratch / "model", .out = scratch / "fp8", .form = WeightForm::fp8});
    const SafetensorsFile file(scratch / "fp8" / "model.safetensors");
    const auto bits = [&](const std::string& layer, std::size_t block) {
        const TensorInfo t = file.at("model.layers.0.mlp." + layer + ".weight_scale_inv");
        return test::values<std::uint32_t>(t)[block];
    };
    EXPECT_EQ(bits("up_proj", 1), 0x2A7B5123u);    // (3, 2) blocks
    EXPECT_EQ(bits("down_proj", 3), 0x2A7B5123u);  // (2, 3)
    EXPECT_NE(bits("up_proj", 0), 0x2A7B5123u);
    const TensorInfo down = file.at("model.layers.0.mlp.down_proj.weight");
    EXPECT_NE(static_cast<int>(down.bytes[200 * 384]) & 0x7F, 0);  // codes, though
}

// Neither a shape's rows nor its columns may leave a part of a block, of any of a group.
TEST(WeightBlocks, AreWholeInAllOfAGroup) {
    const std::vector<NamedShape> weights{{"a.q_proj.weight", {256, 128}},
                                          {"a.k_proj.weight", {64, 128}},
                                          {"a.v_proj.weight", {128, 128}},
                                          {"a.o_proj.weight", {128, 256}},
                                          {"b.q_proj.weight", {256, 128}},
                                          {"b.gate_proj.weight", {384, 128}},
                                          {"b.up_proj.weight", {384, 128}},
                                          {"b.down_proj.weight", {128, 320}},
                                          {"c.experts.up_proj.weight", {3, 96, 128}},
                                          {"c.experts.down_proj.weight", {3, 128, 128}},
                                          {"h.0.attn.c_attn.weight", {128, 384}}};
    const auto ragged = [](const NamedShape& w) { return !has_whole_blocks(w.shape); };
    EXPECT_EQ(with_joined(weights, ragged),
              (std::set<std::string>{"a.k_proj.weight", "a.q_proj.weight", "a.v_proj.weight",
                                     "b.down_proj.weight", "c.experts.up_proj.weight"}));
}

}  // namespace
}  // namespace octavo
