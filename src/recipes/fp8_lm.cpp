#include "recipes/table.h"

namespace octavo {

// FP8-LM (Peng et al., arXiv 2310.18313), the FP8 products of its Linear layers: one scale per
// tensor, E4M3 forward, E5M2 for output gradients. Embedding, norms, attention, head in bf16.
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

}  // namespace octavo
