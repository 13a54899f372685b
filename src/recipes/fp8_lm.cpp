#include "recipes/table.h"

namespace octavo {

// FP8-LM (Peng et al., arXiv 2310.18313). The recipe is its Linear layers' FP8 products: one scale
// per tensor, E4M3 forward, E5M2 for output gradients. Embedding, norms, attention, head in bf16.
// The levels are what lies in State beside them.
Recipe fp8_lm_recipe() {
    return {
        .name = "fp8-lm",
        .compute = Dtype::bf16,
        .activation = Format{.dtype = Dtype::e4m3, .provider = Provider::delayed},
        .weight = Format{.dtype = Dtype::e4m3, .provider = Provider::recorded},
        .output_grad = Format{.dtype = Dtype::e5m2, .provider = Provider::delayed},
        .window = 16,
    };
}

// O1: gradients at rest in 8 bits, masters in 16. O2: moments, too. O3: the E4M3 working weights,
// which processes would exchange; one process has them whenever Recipe::cache_weights.
StateFormats fp8_lm_states(std::string_view level) {
    if (level == "O0") return {};
    if (level == "O1") return {Dtype::f16, Dtype::e4m3, Dtype::f32, Dtype::f32};
    if (level == "O2" || level == "O3") return {Dtype::f16, Dtype::e4m3, Dtype::e4m3, Dtype::f16};
    fail_usage("recipe.level: expected O0, O1, O2 or O3, got '{}'", level);
}

}  // namespace octavo
