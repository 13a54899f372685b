// A model exported to FP8 holds exactly what the engine used.
#include "base/float8.h"
#include "engine/engine_testing.h"
#include "io/scratch.h"
#include "models/convert_model.h"
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

WeightSource folder(const std::filesystem::path& path) {
    return [path](std::span<const WeightTarget> weights) { load_weights(path, weights); };
}

// Codes and scales of a weight in blocks, as the values they stand for.
std::vector<float> decoded(const State& state, const std::string& name) {
    const Type& type = state.at(name).type;
    std::vector<std::byte> parts(static_cast<std::size_t>(total_bytes(type)));
    state.read_all_parts(name, parts.data());
    const TensorRef t = tensor_at(type, parts.data());
    const ScaleLayout layout = scale_layout(type);
    std::vector<float> values;
    for (std::int64_t i = 0; i < type.shape[0]; ++i) {
        for (std::int64_t j = 0; j < type.shape[1]; ++j) {
            const e4m3 code = t.as<e4m3>()[i * type.shape[1] + j];
            values.push_back(static_cast<float>(code) * t.scales()[layout.scale_at(i, j)]);
        }
    }
    return values;
}

TEST(Fp8Export, IsWhatTheEngineUses) {
    const Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    const auto converted = convert_model(
        {.model = scratch / "model", .out = scratch / "fp8", .form = WeightForm::fp8});
    EXPECT_EQ(converted.quantised, 2u * 7);
    const auto backend = test::make_test_backend();
    Engine engine(*backend, kLlama, recipe_named("blockwise"), {.max_seqs = 2});
    engine.load(folder(scratch / "model"));
    const State& state = engine.program().state();
    const TextRequest request{.prompt = {1, 2, 3, 4, 5}, .max_tokens = 20};
    const auto made = test::generate(engine, {request});

    const StoredWeights stored(scratch / "fp8");
    std::size_t compared = 0;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "work.e4m3") continue;
        std::vector<float> want;
        for (const std::string& part : joined_parts(parameter_of(e.name))) {
            const auto weight = stored.find(part);
            ASSERT_TRUE(weight && weight->scale) << part;
            std::vector<float> values(static_cast<std::size_t>(weight->tensor.shape.elements()));
            weight->read(values);
            want.insert(want.end(), values.begin(), values.end());
            ++compared;
        }
        EXPECT_EQ(decoded(state, e.name), want) << e.name;
    }
    EXPECT_EQ(compared, converted.quantised);
    // And an engine that reads the export has the same codes, and the same texts.
    engine.load(folder(scratch / "fp8"));
    EXPECT_EQ(test::generate(engine, {request}), made);
    // Bytes of what is quantised, against bf16.
    double codes = 0, elements = 0;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "work.e4m3") continue;
        elements += static_cast<double>(e.type.shape.elements());
        codes += static_cast<double>(data_bytes(e.type)) +
                 4 * static_cast<double>(e.type.shape.elements()) / (128 * 128);
    }
    EXPECT_NEAR(codes / (2 * elements), 0.50012, 1e-5);
}

}  // namespace
}  // namespace octavo
