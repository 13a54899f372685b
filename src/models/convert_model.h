// Models from one form on disk into another: a folder as Hugging Face has them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace octavo {

// fp8 and fp8_tensor: Linear weights of the layers in E4M3, one f32 scale per 128 x 128 block or
// per tensor, amax / 448; the rest in bf16 (models/stored_weights.h). transformers reads the
// blocks, and takes the codes of fp8_tensor for values: that form is for vLLM and SGLang.
enum class WeightForm : std::uint8_t { f32, bf16, fp8, fp8_tensor };
std::string_view name(WeightForm);
WeightForm weight_form_named(std::string_view);
bool is_fp8_form(WeightForm);

struct ConvertRequest {
    std::filesystem::path model;  // a Hugging Face folder, a checkpoint, or a file of llm.c
    std::filesystem::path out;    // a folder; must not exist
    WeightForm form = WeightForm::bf16;
    std::vector<std::string> in_bf16 = {};  // layers that FP8 leaves alone (base/layer_name.h)
    std::int64_t shard_bytes = kShardBytes;
    // Changes the values of a weight before they are rounded, the same each time it is called.
    std::function<void(const std::string& weight, std::span<float> values)> edit = {};
};

struct ConvertedModel {
    std::size_t tensors = 0;  // weights
    std::size_t quantised = 0;
    std::int64_t bytes = 0;
    // Linear layers that stay in bf16: the request names them, or no whole blocks cover them, and
    // transformers finds the size of a block from that of the weight. With them stay those that
    // vLLM joins to them (q, k and v; gate and up).
    std::vector<std::string> left_out;
};

// Error if there is no such model, or already something at `out`.
void check_makeable(const ConvertRequest&);

// Weights are read from floats of any width or from FP8, in f32, and rounded to nearest once; those
// in blocks are rounded to bf16 first, of which training and generation make codes. Other files
// that belong to the model (tokenizer, generation_config.json, licence, ...) are copied. On Error
// nothing is left of `out`.
ConvertedModel convert_model(const ConvertRequest&);

}  // namespace octavo
