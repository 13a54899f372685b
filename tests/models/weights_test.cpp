#include "models/weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/convert.h"
#include "io/safetensors.h"
#include "io/scratch.h"
#include "models/model.h"
#include "train/far_backend.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

constexpr Architecture kLlama{.family = Family::llama,
                              .vocab_size = 10,
                              .hidden_size = 8,
                              .layers = 1,
                              .heads = 2,
                              .kv_heads = 1,
                              .head_dim = 4,
                              .intermediate_size = 12,
                              .max_positions = 16};

Architecture gpt2() {
    Architecture a = kLlama;
    a.family = Family::gpt2;
    a.kv_heads = 2;
    a.tie_embeddings = true;
    return a;
}

Architecture tied_llama() {
    Architecture a = kLlama;
    a.tie_embeddings = true;
    return a;
}

// Multiples of 1/64 in [-2, 2]: exact in all formats.
std::vector<float> values(std::size_t n, std::size_t seed) {
    std::vector<float> v(n);
    for (std::size_t i = 0; i < n; ++i) {
        v[i] = static_cast<float>((i * 37 + seed * 101) % 257) / 64.0f - 2.0f;
    }
    return v;
}

// Tensors of a Hugging Face folder, in memory.
struct Folder {
    struct Tensor {
        Dtype dtype;
        Shape shape;
        std::vector<std::byte> bytes;
    };

    Folder(const Architecture& arch, Dtype dtype) {
        for (const Parameter& p : parameters(arch)) add(p.name, dtype, p.shape, tensors.size());
    }
    void add(const std::string& name, Dtype dtype, const Shape& shape, std::size_t seed) {
        const auto n = static_cast<std::size_t>(shape.elements());
        Tensor t{dtype, shape, std::vector<std::byte>(n * size_of(dtype))};
        if (is_float(dtype)) {
            convert(std::as_bytes(std::span<const float>(values(n, seed))), Dtype::f32, t.bytes,
                    dtype);
        }
        tensors[name] = std::move(t);
    }
    void rename(const std::string& from, const std::string& to) {
        auto node = tensors.extract(from);
        node.key() = to;
        tensors.insert(std::move(node));
    }
    void write() const {
        std::vector<TensorInfo> list;
        for (const auto& [name, t] : tensors) list.push_back({name, t.dtype, t.shape, t.bytes});
        write_safetensors(scratch / "model.safetensors", list);
    }
    fs::path path() const { return scratch / ""; }

    Scratch scratch;
    std::map<std::string, Tensor> tensors;
};

struct Model {
    explicit Model(const Architecture& arch) {
        for (const Parameter& p : parameters(arch)) {
            names.push_back(p.name);
            state.declare(p.name, {Dtype::f32, p.shape});
            state.declare("adam.m/" + p.name, {Dtype::f32, p.shape});
        }
        state.allocate(backend);
    }
    std::vector<float> read(const std::string& name) const {
        std::vector<float> v(static_cast<std::size_t>(state.at(name).type.shape.elements()));
        state.read(name, v.data());
        return v;
    }
    void expect_loaded() const {
        for (std::size_t i = 0; i < names.size(); ++i) {
            const auto got = read(names[i]);
            EXPECT_EQ(got, values(got.size(), i)) << names[i];
            EXPECT_EQ(read("adam.m/" + names[i]), std::vector<float>(got.size())) << names[i];
        }
    }
    std::string refusal(const Folder& folder) {
        folder.write();
        const std::string error = error_of([&] { load_weights(folder.path(), state); });
        for (const std::string& name : names) {
            const auto got = read(name);
            EXPECT_EQ(got, std::vector<float>(got.size())) << name << " was written";
        }
        return error;
    }

    FarBackend backend;
    State state;
    std::vector<std::string> names;
};

TEST(LoadWeights, ConvertsEveryWideFloat) {
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16}) {
        SCOPED_TRACE(name(dtype));
        const Folder folder(kLlama, dtype);
        folder.write();
        Model model(kLlama);
        load_weights(folder.path(), model.state);
        model.expect_loaded();
    }
}

TEST(LoadWeights, NamesWhatIsNotFinite) {
    const std::string up = "model.layers.0.mlp.up_proj.weight";
    for (const float bad : {INFINITY, -INFINITY, std::nanf("")}) {
        for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
            Folder folder(kLlama, dtype);
            std::vector<std::byte>& bytes = folder.tensors.at(up).bytes;
            convert(&bad, Dtype::f32, bytes.data() + 5 * size_of(dtype), dtype, 1);
            folder.write();
            Model model(kLlama);
            EXPECT_TRUE(
                contains(error_of([&] { load_weights(folder.path(), model.state); }),
                         "'" + up + "': element 5 is " + (std::isnan(bad) ? "NaN" : "infinite")));
        }
    }
}

TEST(LoadWeights, DecodesFp8) {
    const std::string up = "model.layers.0.mlp.up_proj.weight";
    for (const char* scale : {"_scale", "_scale_inv"}) {
        Folder folder(kLlama, Dtype::bf16);
        folder.add(up, Dtype::e4m3, {12, 8}, 5);
        folder.add(up + scale, Dtype::f32, {1, 1}, 3);
        folder.add("model.layers.0.mlp.up_proj.input_scale", Dtype::f32, {1}, 4);
        folder.write();
        Model model(kLlama);
        load_weights(folder.path(), model.state);
        std::vector<float> want = values(96, 5), codes(96);
        std::vector<std::byte> eight(96);
        convert(want.data(), Dtype::f32, eight.data(), Dtype::e4m3, 96);
        convert(eight.data(), Dtype::e4m3, codes.data(), Dtype::f32, 96);
        for (std::size_t i = 0; i < 96; ++i) want[i] = codes[i] * values(1, 3)[0];
        EXPECT_EQ(model.read(up), want);
    }
}

TEST(LoadWeights, RefusesScalesWithoutCodes) {
    Folder folder(kLlama, Dtype::bf16);
    folder.add("model.layers.0.mlp.up_proj.weight_scale", Dtype::f32, {1}, 3);
    const std::string error = Model(kLlama).refusal(folder);
    EXPECT_TRUE(contains(error, "up_proj.weight': expected codes in FP8, since")) << error;
}

TEST(LoadWeights, RefusesCodesWithoutScales) {
    Folder folder(kLlama, Dtype::f32);
    folder.add("lm_head.weight", Dtype::e4m3, {10, 8}, 0);
    const std::string error = Model(kLlama).refusal(folder);
    EXPECT_TRUE(contains(error, "'lm_head.weight': expected a matrix of e4m3 codes")) << error;
}

TEST(LoadWeights, RoundsToMastersUnderAScale) {
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16}) {
        const Folder folder(kLlama, dtype);
        folder.write();
        FarBackend backend;
        State state;
        for (const Parameter& p : parameters(kLlama)) {
            state.declare(p.name, {Dtype::f16, p.shape, kPerTensor});
        }
        state.allocate(backend);
        load_weights(folder.path(), state);
        std::size_t i = 0;
        for (const Parameter& p : parameters(kLlama)) {
            const auto want = values(static_cast<std::size_t>(p.shape.elements()), i++);
            std::vector<std::byte> all(
                static_cast<std::size_t>(total_bytes(state.at(p.name).type)));
            state.read_all_parts(p.name, all.data());
            const TensorRef t = tensor_at(state.at(p.name).type, all.data());
            std::vector<float> got(want.size());
            dequantise(t.data, Dtype::f16, *t.scales(), got.data(), Dtype::f32, std::ssize(got));
            EXPECT_EQ(got, want) << p.name;
        }
    }
}

TEST(LoadWeights, FindsGpt2NamesWithoutPrefix) {
    Folder folder(gpt2(), Dtype::f32);
    Model model(gpt2());
    for (const std::string& name : model.names) folder.rename(name, name.substr(12));
    folder.add("h.0.attn.bias", Dtype::u8, {1, 1, 16, 16}, 0);
    folder.add("h.0.attn.masked_bias", Dtype::f32, {}, 0);
    folder.write();
    load_weights(folder.path(), model.state);
    model.expect_loaded();
}

TEST(LoadWeights, AcceptsATiedHeadThatRepeatsTheEmbedding) {
    const std::pair<Architecture, std::string> cases[] = {
        {tied_llama(), "model.embed_tokens.weight"}, {gpt2(), "transformer.wte.weight"}};
    for (const auto& [arch, table] : cases) {
        Folder folder(arch, Dtype::bf16);
        folder.tensors["lm_head.weight"] = folder.tensors.at(table);
        folder.write();
        Model model(arch);
        load_weights(folder.path(), model.state);
        model.expect_loaded();

        folder.tensors["lm_head.weight"].bytes[5] ^= std::byte{1};
        const std::string error = Model(arch).refusal(folder);
        EXPECT_TRUE(contains(error, "ties its head"));
        EXPECT_TRUE(contains(error, "tie_word_embeddings"));
    }
}

TEST(LoadWeights, NamesMissingUnknownAndMisfitTensors) {
    Folder folder(kLlama, Dtype::f32);
    folder.rename("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.top_proj.weight");
    folder.add("model.norm.weight", Dtype::f32, {9}, 0);
    folder.add("lm_head.weight", Dtype::i32, {10, 8}, 0);
    folder.add("model.rotary_emb.inv_freq", Dtype::f32, {2}, 0);
    const std::string error = Model(kLlama).refusal(folder);
    EXPECT_TRUE(contains(error, "1 missing: 'model.layers.0.mlp.up_proj.weight'"));
    EXPECT_TRUE(contains(error, "1 unknown: 'model.layers.0.mlp.top_proj.weight'"));
    EXPECT_TRUE(contains(error, "2 of another type: "));
    EXPECT_TRUE(contains(error, "'model.norm.weight': expected f32[8], got f32[9]"));
    EXPECT_TRUE(contains(
        error, "'lm_head.weight': expected f32[10, 8] or another float dtype, got i32[10, 8]"));
    EXPECT_TRUE(contains(error, "config.json"));
}

TEST(LoadWeights, KeepsTheListOfMissingTensorsShort) {
    const Folder folder(gpt2(), Dtype::f32);
    const std::string error = Model(kLlama).refusal(folder);
    EXPECT_TRUE(contains(error, "missing: 'model.embed_tokens.weight'"));
    EXPECT_TRUE(contains(error, "' and "));
    EXPECT_LT(error.size(), 900u);
}

TEST(LoadWeights, WantsAFolderWithSafetensors) {
    const Scratch scratch;
    Model model(kLlama);
    EXPECT_TRUE(contains(error_of([&] { load_weights(scratch / "none", model.state); }),
                         "expected model.safetensors or model.safetensors.index.json"));
}

}  // namespace
}  // namespace octavo
