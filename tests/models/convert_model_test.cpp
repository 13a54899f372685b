#include "models/convert_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/convert.h"
#include "base/float16.h"
#include "base/rng.h"
#include "io/scratch.h"
#include "models/random_model.h"
#include "models/stored_weights.h"
#include "train/golden.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

// Whole blocks, but for k and v of 64 rows.
constexpr Architecture kLlama{.family = Family::llama,
                              .vocab_size = 40,
                              .hidden_size = 256,
                              .layers = 2,
                              .heads = 4,
                              .kv_heads = 2,
                              .head_dim = 32,
                              .intermediate_size = 384,
                              .max_positions = 16};

std::vector<float> values_of(const fs::path& folder, const std::string& name) {
    const StoredWeights weights(folder);
    const auto weight = weights.find(name);
    check(weight.has_value(), "no {}", name);
    std::vector<float> x(static_cast<std::size_t>(weight->tensor.shape.elements()));
    weight->read(x);
    return x;
}

nlohmann::json config_of(const fs::path& folder) {
    return nlohmann::json::parse(Scratch::read(folder / "config.json"));
}

void expect_equal_tensors(const fs::path& a, const fs::path& b) {
    const SafetensorsModel x(a), y(b);
    ASSERT_EQ(x.names(), y.names());
    for (const std::string& name : x.names()) {
        const TensorInfo t = x.at(name), u = y.at(name);
        EXPECT_EQ(t.dtype, u.dtype) << name;
        EXPECT_EQ(t.shape, u.shape) << name;
        EXPECT_TRUE(std::ranges::equal(t.bytes, u.bytes)) << name;
    }
}

class ConvertFamily : public testing::TestWithParam<const char*> {};

TEST_P(ConvertFamily, WritesBackWhatItRead) {
    Scratch scratch;
    const fs::path source = test::fixture(GetParam());
    convert_model({.model = source, .out = scratch / "a", .form = WeightForm::f32});
    convert_model({.model = scratch / "a", .out = scratch / "b", .form = WeightForm::f32});
    expect_equal_tensors(scratch / "a", scratch / "b");
    EXPECT_EQ(Scratch::read(scratch / "a" / "config.json"),
              Scratch::read(scratch / "b" / "config.json"));
    EXPECT_EQ(read_hf_config(scratch / "a"), read_hf_config(source));
    // And it is what lay there.
    const SafetensorsModel written(scratch / "a");
    const StoredWeights stored(source);
    for (const std::string& name : written.names()) {
        EXPECT_EQ(values_of(scratch / "a", name), values_of(source, name)) << name;
    }
    EXPECT_GE(stored.names().size(), written.names().size());
}

INSTANTIATE_TEST_SUITE_P(Families, ConvertFamily,
                         testing::Values("llama", "llama3-rope", "qwen2", "qwen3", "qwen3-moe",
                                         "gpt2"),
                         [](const auto& param_info) {
                             std::string name = param_info.param;
                             std::erase(name, '-');
                             return name;
                         });

TEST(Convert, RoundsToBf16Once) {
    Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    convert_model({.model = scratch / "model", .out = scratch / "out"});
    for (const std::string& name : SafetensorsModel(scratch / "out").names()) {
        const auto want = values_of(scratch / "model", name),
                   got = values_of(scratch / "out", name);
        ASSERT_EQ(want.size(), got.size());
        for (std::size_t i = 0; i < want.size(); ++i) {
            ASSERT_LE(std::abs(got[i] - want[i]), std::abs(want[i]) * 0x1p-8f);
        }
    }
    EXPECT_EQ(config_of(scratch / "out")["dtype"], "bfloat16");
    EXPECT_TRUE(fs::exists(scratch / "out" / "tokenizer.json"));
    EXPECT_FALSE(fs::exists(scratch / "out" / "pytorch_model.bin"));
}

// The largest magnitude of each 128 x 128 block, in doubles.
std::vector<double> block_amaxes(const std::vector<float>& x, std::int64_t rows,
                                 std::int64_t columns) {
    const std::int64_t across = (columns + 127) / 128, down = (rows + 127) / 128;
    std::vector<double> top(static_cast<std::size_t>(down * across));
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
            double& t = top[static_cast<std::size_t>(i / 128 * across + j / 128)];
            t = std::max(t, std::abs(double{x[static_cast<std::size_t>(i * columns + j)]}));
        }
    }
    return top;
}

TEST(ConvertToFp8, HasAScalePerBlock) {
    Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    const ConvertedModel converted = convert_model(
        {.model = scratch / "model", .out = scratch / "out", .form = WeightForm::fp8});
    // k and v have 64 rows: q, k and v stay.
    EXPECT_EQ(converted.quantised, 2u * 4);
    EXPECT_EQ(converted.left_out.size(), 2u * 3);
    const SafetensorsModel file(scratch / "out");
    const std::string up = "model.layers.1.mlp.up_proj";
    const TensorInfo codes = file.at(up + ".weight"), scales = file.at(up + ".weight_scale_inv");
    EXPECT_EQ(codes.dtype, Dtype::e4m3);
    EXPECT_EQ(scales.shape, (Shape{3, 2}));
    EXPECT_EQ(file.at("model.layers.0.self_attn.q_proj.weight").dtype, Dtype::bf16);
    EXPECT_EQ(file.at("model.embed_tokens.weight").dtype, Dtype::bf16);
    EXPECT_EQ(file.at("model.norm.weight").dtype, Dtype::bf16);

    auto want = values_of(scratch / "model", up + ".weight");
    for (float& x : want) x = static_cast<float>(bf16(x));
    const auto got = values_of(scratch / "out", up + ".weight");
    const auto top = block_amaxes(want, 384, 256);
    std::vector<float> s(6);
    std::memcpy(s.data(), scales.bytes.data(), scales.bytes.size());
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(s[i], static_cast<float>(top[i]) / 448.0f);
    for (std::size_t i = 0; i < want.size(); ++i) {
        const std::size_t block = i / 256 / 128 * 2 + i % 256 / 128;
        // Half a quantum, and the rounding of 1 / scale and of two products.
        const double limit =
            std::max(std::abs(double{want[i]}) * 0x1p-4, double{s[block]} * 0x1p-10);
        ASSERT_LE(std::abs(double{got[i]} - double{want[i]}), limit * (1 + 0x1p-18)) << i;
    }
    const auto q = config_of(scratch / "out")["quantization_config"];
    EXPECT_EQ(q["quant_method"], "fp8");
    EXPECT_EQ(q["weight_block_size"], (nlohmann::json{128, 128}));
    EXPECT_EQ(q["modules_to_not_convert"], q["ignored_layers"]);
    EXPECT_EQ(q["modules_to_not_convert"].size(), 1u + 6);
    EXPECT_EQ(read_hf_config(scratch / "out"), kLlama);
}

// Layers that were trained in bf16 stay so, with those that are joined to them.
TEST(ConvertToFp8, LeavesOutWhatItIsAsked) {
    Scratch scratch;
    Architecture arch = kLlama;
    arch.family = Family::qwen3_moe;
    arch.kv_heads = 4;
    arch.head_dim = 64;
    arch.experts = {.count = 3, .per_token = 2, .intermediate_size = 128, .dense_layers = {1}};
    test::write_random_model(scratch / "model", arch);
    for (const WeightForm form : {WeightForm::fp8, WeightForm::fp8_tensor}) {
        const fs::path out = scratch / std::string(name(form));
        const auto converted = convert_model({.model = scratch / "model",
                                              .out = out,
                                              .form = form,
                                              .in_bf16 = {"layers.1.self_attn.k_proj", "lm_head",
                                                          "experts.down_proj", "1.mlp.gate_proj"}});
        std::vector<std::string> want;
        for (const char* e : {"0", "1", "2"}) {
            want.push_back(std::string("model.layers.0.mlp.experts.") + e + ".down_proj");
        }
        for (const char* part : {"mlp.gate_proj", "mlp.up_proj", "self_attn.k_proj",
                                 "self_attn.q_proj", "self_attn.v_proj"}) {
            want.push_back(std::string("model.layers.1.") + part);
        }
        EXPECT_EQ(converted.left_out, want);
        EXPECT_EQ(converted.quantised, 4u + 6 + 2);
        const auto q = config_of(out)["quantization_config"];
        EXPECT_EQ(q["ignored_layers"].size(), 1 + want.size());
        const SafetensorsModel file(out);
        for (const std::string& layer : want) {
            EXPECT_EQ(file.at(layer + ".weight").dtype, Dtype::bf16) << layer;
        }
        EXPECT_EQ(file.at("model.layers.1.mlp.down_proj.weight").dtype, Dtype::e4m3);
    }
}

// transformers would take another size for the blocks.
TEST(ConvertToFp8, LeavesOutWhatBlocksDoNotCover) {
    Scratch scratch;
    Architecture arch = kLlama;
    arch.hidden_size = 192;
    test::write_random_model(scratch / "model", arch);
    const ConvertedModel converted = convert_model(
        {.model = scratch / "model", .out = scratch / "out", .form = WeightForm::fp8});
    EXPECT_EQ(converted.quantised, 0u);
    EXPECT_EQ(converted.left_out.size(), 2u * 7);
    EXPECT_EQ(SafetensorsModel(scratch / "out").at("model.layers.0.mlp.down_proj.weight").dtype,
              Dtype::bf16);
}

TEST(ConvertToFp8, HasAScalePerTensor) {
    Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    const ConvertedModel converted = convert_model(
        {.model = scratch / "model", .out = scratch / "out", .form = WeightForm::fp8_tensor});
    EXPECT_EQ(converted.quantised, 2u * 7);
    const SafetensorsModel file(scratch / "out");
    const std::string k = "model.layers.0.self_attn.k_proj";
    EXPECT_EQ(file.at(k + ".weight_scale").shape.elements(), 1);
    const auto want = values_of(scratch / "model", k + ".weight");
    const auto got = values_of(scratch / "out", k + ".weight");
    EXPECT_EQ(got[5 * 256 + 7], 3.0f / 448.0f * 448.0f);
    for (std::size_t i = 0; i < want.size(); ++i) {
        const double limit = std::max(std::abs(double{want[i]}) * 0x1p-4, 3.0 / 448 * 0x1p-10);
        ASSERT_LE(std::abs(double{got[i]} - double{want[i]}), limit * (1 + 0x1p-18)) << i;
    }
}

TEST(ConvertToFp8, AndBackIsWhatTheCodesSay) {
    Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    for (const WeightForm form : {WeightForm::fp8, WeightForm::fp8_tensor}) {
        const std::string eight = "eight" + std::string(name(form)), back = eight + "back",
                          again = eight + "again";
        convert_model({.model = scratch / "model", .out = scratch / eight, .form = form});
        convert_model({.model = scratch / eight, .out = scratch / back, .form = WeightForm::f32});
        for (const std::string& name : StoredWeights(scratch / eight).names()) {
            EXPECT_EQ(values_of(scratch / back, name), values_of(scratch / eight, name)) << name;
        }
        EXPECT_FALSE(config_of(scratch / back).contains("quantization_config"));
        // What E4M3 holds already is not moved by the same form again.
        convert_model({.model = scratch / eight, .out = scratch / again, .form = form});
        for (const std::string& name : StoredWeights(scratch / eight).names()) {
            const auto once = values_of(scratch / eight, name);
            const auto twice = values_of(scratch / again, name);
            for (std::size_t i = 0; i < once.size(); ++i) {
                ASSERT_NEAR(twice[i], once[i], std::abs(once[i]) * 0x1p-21f) << name;
            }
        }
    }
}

TEST(Convert, WritesShards) {
    Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    convert_model({.model = scratch / "model",
                   .out = scratch / "out",
                   .form = WeightForm::f32,
                   .shard_bytes = 400'000});
    EXPECT_FALSE(fs::exists(scratch / "out" / "model.safetensors"));
    EXPECT_TRUE(fs::exists(scratch / "out" / "model.safetensors.index.json"));
    int shards = 0;
    for (const auto& e : fs::directory_iterator(scratch / "out")) {
        if (e.path().extension() != ".safetensors") continue;
        ++shards;
        EXPECT_LE(fs::file_size(e.path()), 410'000u);
    }
    EXPECT_GT(shards, 3);
    for (const std::string& name : SafetensorsModel(scratch / "out").names()) {
        EXPECT_EQ(values_of(scratch / "out", name), values_of(scratch / "model", name)) << name;
    }
}

// A checkpoint as llm.c writes it, of two layers.
std::string llmc_file(std::int32_t version, std::int32_t vocab, std::int32_t padded) {
    constexpr std::int32_t kPositions = 6, kLayers = 2, kHeads = 2, kWidth = 8;
    std::vector<std::int32_t> header(256);
    const std::int32_t begin[] = {20240326, version, kPositions, vocab,
                                  kLayers,  kHeads,  kWidth,     padded};
    std::ranges::copy(begin, header.begin());
    const std::int64_t c = kWidth;
    const std::int64_t layer = 12 * c * c + 13 * c;
    const std::int64_t n = padded * c + kPositions * c + kLayers * layer + 2 * c;
    std::vector<float> values(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251) / 8;
    std::string file(reinterpret_cast<const char*>(header.data()), 1024);
    if (version == 3) {
        file.append(reinterpret_cast<const char*>(values.data()), values.size() * 4);
    } else {
        std::string narrow(values.size() * 2, '\0');
        convert(values.data(), Dtype::f32, narrow.data(), Dtype::bf16, n);
        file += narrow;
    }
    return file;
}

TEST(ConvertLlmc, TransposesLinearWeightsAndDropsThePadding) {
    for (const std::int32_t version : {3, 5}) {
        Scratch scratch;
        const auto model = scratch.write("gpt2.bin", llmc_file(version, 11, 16));
        const auto out = scratch / "out";
        convert_model({.model = model, .out = out, .form = WeightForm::f32});
        const Architecture arch = read_hf_config(out);
        EXPECT_EQ(arch.vocab_size, 11);
        EXPECT_EQ(arch.layers, 2);
        const auto at = [](std::size_t i) { return static_cast<float>(i % 251) / 8; };
        constexpr std::size_t kC = 8;
        const std::size_t wpe = 16 * kC, ln1 = wpe + 6 * kC;
        const std::size_t qkv = ln1 + 2 * kC + 2 * kC;  // ln_1's weights, then its biases
        const auto table = values_of(out, "transformer.wte.weight");
        ASSERT_EQ(table.size(), 11 * kC);
        EXPECT_EQ(table[10 * kC + 3], at(10 * kC + 3));
        EXPECT_EQ(values_of(out, "transformer.h.1.ln_1.weight")[2], at(ln1 + kC + 2));
        const auto w = values_of(out, "transformer.h.1.attn.c_attn.weight");  // (8, 24)
        EXPECT_EQ(w[5 * 3 * kC + 17], at(qkv + 3 * kC * kC + 17 * kC + 5));
        // All that the model wants, and nothing else.
        EXPECT_EQ(SafetensorsModel(out).names().size(), parameters(arch).size());
    }
}

std::string error_of(const ConvertRequest& request) {
    try {
        convert_model(request);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(ConvertLlmc, RefusesWhatDoesNotFit) {
    Scratch scratch;
    std::string file = llmc_file(3, 11, 16);
    const auto error = [&](std::string_view contents) {
        return error_of({.model = scratch.write("gpt2.bin", contents), .out = scratch / "out"});
    };
    EXPECT_TRUE(contains(error(file.substr(0, file.size() - 1)), "bytes, got"));
    EXPECT_TRUE(contains(error(file + "x"), "bytes, got"));
    const auto with = [&](int i, std::int32_t value) {
        std::string changed = file;
        std::memcpy(changed.data() + 4 * i, &value, 4);
        return error(changed);
    };
    EXPECT_TRUE(contains(with(1, 4), "version 3 (f32) or 5 (bf16), got 4"));
    EXPECT_TRUE(contains(with(4, -1), "header[4]"));
    EXPECT_TRUE(contains(with(6, 1 << 30), "header[6]"));
    EXPECT_TRUE(contains(with(5, 3), "heads that divide the width"));
    EXPECT_TRUE(contains(with(7, 10), "padded vocabulary"));
    EXPECT_FALSE(fs::exists(scratch / "out"));
}

TEST(Convert, RefusesByName) {
    Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    fs::create_directories(scratch / "there");
    EXPECT_TRUE(contains(error_of({.model = scratch / "model", .out = scratch / "there"}),
                         "it is there already"));
    EXPECT_TRUE(contains(
        error_of({.model = test::fixture("gpt2"), .out = scratch / "out", .form = WeightForm::fp8}),
        "gpt2's weights lie as (in, out)"));
    // Codes whose scales are gone, or are too few.
    convert_model({.model = scratch / "model", .out = scratch / "eight", .form = WeightForm::fp8});
    const auto damaged = [&](const char* folder, bool drop) {
        std::vector<TensorInfo> tensors;
        const SafetensorsModel file(scratch / "eight");
        const std::string scale = "model.layers.0.mlp.down_proj.weight_scale_inv";
        for (const std::string& name : file.names()) {
            TensorInfo t = file.at(name);
            if (name == scale && drop) continue;
            if (name == scale) t = {name, Dtype::f32, {2, 2}, t.bytes.first(16)};
            tensors.push_back(t);
        }
        fs::create_directories(scratch / folder);
        write_safetensors(scratch / folder / "model.safetensors", tensors);
        fs::copy_file(scratch / "eight" / "config.json", scratch / folder / "config.json");
        return error_of({.model = scratch / folder, .out = scratch / "out"});
    };
    const std::string dropped = damaged("dropped", true), few = damaged("few", false);
    EXPECT_TRUE(contains(dropped, "down_proj.weight_scale_inv' or ")) << dropped;
    EXPECT_TRUE(contains(few, "expected one scale, or [2, 3] for blocks of 128 x 128")) << few;
    EXPECT_FALSE(fs::exists(scratch / "out"));
}

TEST(ConvertToFp8, RefusesWeightsThatAreNotFinite) {
    Scratch scratch;
    test::write_random_model(scratch / "model", kLlama);
    const SafetensorsModel file(scratch / "model");
    std::vector<TensorInfo> tensors;
    std::vector<float> bad = values_of(scratch / "model", "model.layers.0.mlp.up_proj.weight");
    bad[77] = std::nanf("");
    for (const std::string& name : file.names()) {
        TensorInfo t = file.at(name);
        if (name == "model.layers.0.mlp.up_proj.weight") {
            t.bytes = std::as_bytes(std::span<const float>(bad));
        }
        tensors.push_back(t);
    }
    fs::create_directories(scratch / "bad");
    write_safetensors(scratch / "bad" / "model.safetensors", tensors);
    fs::copy_file(scratch / "model" / "config.json", scratch / "bad" / "config.json");
    const std::string error =
        error_of({.model = scratch / "bad", .out = scratch / "out", .form = WeightForm::fp8});
    EXPECT_TRUE(contains(error, "expected finite weights")) << error;
    EXPECT_FALSE(fs::exists(scratch / "out"));
}

}  // namespace
}  // namespace octavo
