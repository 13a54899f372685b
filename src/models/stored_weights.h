// The weights of a Hugging Face folder as they lie there: floats, or E4M3 (E5M2) codes with f32
// scales beside them, in the two forms that vLLM, SGLang and transformers exchange ("quant_method":
// "fp8"):
//     X.weight (N, K) and X.weight_scale_inv (ceil(N / 128), ceil(K / 128))     per 128 x 128 block
//     X.weight (N, K) and X.weight_scale (1) or ()                              per tensor
// In both, whatever the first one's name says, value = code * scale.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/weight_blocks.h"
#include "graph/type.h"
#include "io/safetensors.h"

namespace octavo {

// Blocks of a weight (rows, columns).
Shape weight_blocks(const Shape& weight);

struct StoredWeight {
    TensorInfo tensor;
    std::optional<TensorInfo> scale;  // of codes

    // All values, in f32.
    void read(std::span<float> values) const;
};

class StoredWeights {
  public:
    explicit StoredWeights(const std::filesystem::path& folder);

    // Sorted, without scales.
    std::vector<std::string> names() const { return names_; }
    // Error for codes without scales, or with scales that do not fit them.
    std::optional<StoredWeight> find(std::string_view name) const;

    struct Expected {
        std::string name;
        Type type;  // any float dtype will do
    };
    // The weights of a model, in its order. GPT-2's names may lack their prefix "transformer.", and
    // what is no parameter (attention masks, rotary frequencies, a tied head that repeats the
    // embedding) is passed over. An Error names what else is missing, unknown or of another shape.
    std::vector<StoredWeight> match(std::span<const Expected>) const;

  private:
    void judge_unknown(const std::string& name, std::vector<std::string>& unknown) const;

    std::filesystem::path folder_;
    SafetensorsModel file_;
    std::vector<std::string> names_;
};

}  // namespace octavo
