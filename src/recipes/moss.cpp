#include "recipes/table.h"

namespace octavo {

// MOSS (arXiv 2511.05811): activations and gradients in groups of 32 along the product's K, each
// under a power of two below its row's scale; weights under one scale that is predicted from the
// learning rate instead of measured.
Recipe moss_recipe() {
    const Format groups{.dtype = Dtype::e4m3,
                        .granularity = Granularity::micro,
                        .provider = Provider::current,
                        .rounding = ScaleRounding::exact,
                        .group = 32};
    return {
        .name = "moss",
        .compute = Dtype::bf16,
        .activation = groups,
        .weight = Format{.dtype = Dtype::e4m3,
                         .provider = Provider::predicted,
                         .rounding = ScaleRounding::exact},
        .output_grad = groups,
    };
}

}  // namespace octavo
