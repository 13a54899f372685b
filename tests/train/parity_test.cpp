// Parity with Hugging Face transformers: logits, loss, every gradient, and AdamW.

#include "models/weights.h"
#include "test_backend.h"
#include "train/golden.h"
#include "train/inspect_run.h"
#include "train/train_program.h"

namespace octavo {
namespace {

void inspect(const std::string& family, const std::string& recipe, bool fuse,
             const std::filesystem::path& out) {
    const auto backend = test::make_test_backend();
    run_inspection({.model = test::fixture(family),
                    .batch = test::fixture(family) / "golden.safetensors",
                    .out = out,
                    .recipe = recipe_named(recipe),
                    .gradients = true,
                    .fuse = fuse},
                   *backend);
}

void expect_parity(const std::string& family, const std::string& recipe, bool fuse,
                   double tolerance) {
    const test::TemporaryFolder folder;
    const auto out = folder.path() / "out.safetensors";
    inspect(family, recipe, fuse, out);
    const SafetensorsFile got(out), golden(test::fixture(family) / "golden.safetensors");
    int compared = 0;
    for (const TensorEntry& entry : golden.entries()) {
        const bool ours =
            entry.name == "logits" || entry.name == "loss" || entry.name.starts_with("grad.");
        if (!ours) continue;
        const auto want = test::values<float>(golden.at(entry.name));
        EXPECT_LE(test::relative_error(test::values<float>(got.at(entry.name)), want), tolerance)
            << family << " " << entry.name;
        ++compared;
    }
    // Every tensor we write has a golden counterpart, and the other way round.
    EXPECT_EQ(compared, std::ssize(got.entries()));
    EXPECT_GT(compared, 10);
}

class Parity : public testing::TestWithParam<const char*> {};

TEST_P(Parity, Fp32) { expect_parity(GetParam(), "fp32", true, 1e-4); }
TEST_P(Parity, Fp32WithoutFusion) { expect_parity(GetParam(), "fp32", false, 1e-4); }
// bf16 has 8 bits of significand: 2^-9 per rounding, a few dozen of them in a row.
TEST_P(Parity, Bf16) { expect_parity(GetParam(), "bf16", true, 5e-2); }

INSTANTIATE_TEST_SUITE_P(Families, Parity,
                         testing::Values("llama", "llama3-rope", "qwen2", "qwen3", "gpt2"),
                         [](const auto& param_info) {
                             std::string name = param_info.param;
                             std::erase(name, '-');
                             return name;
                         });

TEST(Parity, ThreeAdamWSteps) {
    const SafetensorsFile golden(test::fixture("llama") / "golden.safetensors");
    const TensorInfo batch = golden.at("input_ids");
    const std::int64_t rows = batch.shape[0], time = batch.shape[1];
    std::vector<std::int32_t> ids, targets;
    const auto raw = test::values<std::int64_t>(batch);
    for (std::size_t i = 0; i < raw.size(); ++i) {
        const bool last = (static_cast<std::int64_t>(i) + 1) % time == 0;
        ids.push_back(static_cast<std::int32_t>(raw[i]));
        targets.push_back(last ? -1 : static_cast<std::int32_t>(raw[i + 1]));
    }
    const auto backend = test::make_test_backend();
    TrainProgram program(
        *backend,
        {.architecture = read_hf_config(test::fixture("llama")),
         .recipe = recipe_named("fp32"),
         .batch = rows,
         .seq = time,
         .adamw = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f}},
        false);
    program.allocate(backend->available_bytes());
    program.initialise(1);
    load_weights(test::fixture("llama"), program.state());
    program.refresh();
    for (int step = 1; step <= 3; ++step) {
        program.micro(ids, targets, 1.0f / static_cast<float>(rows * (time - 1)), true);
        program.update(1e-3, step);
    }
    int compared = 0;
    for (const TensorEntry& entry : golden.entries()) {
        if (!entry.name.starts_with("adamw.")) continue;
        std::vector<float> got(static_cast<std::size_t>(golden.at(entry.name).shape.elements()));
        program.state().read(entry.name.substr(6), got.data());
        EXPECT_LE(test::relative_error(got, test::values<float>(golden.at(entry.name))), 1e-4)
            << entry.name;
        ++compared;
    }
    EXPECT_EQ(compared, std::ssize(parameters(program.options().architecture)));
}

}  // namespace
}  // namespace octavo
