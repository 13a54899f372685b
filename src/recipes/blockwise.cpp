#include "base/weight_blocks.h"
#include "recipes/table.h"

namespace octavo {

// Blockwise FP8 (DeepSeek-V3, arXiv 2412.19437, section 3.3): activations and gradients under one
// scale per 1x128 run along the product's K, weights per 128x128 block, all from the tensor as it
// is. The floors keep a rollout's codes equal to the trainer's (1e-10) and small gradients alive.
Recipe blockwise_recipe() {
    const Format runs{.dtype = Dtype::e4m3,
                      .granularity = Granularity::block_1x128,
                      .provider = Provider::current,
                      .rounding = ScaleRounding::exact,
                      .floor = kBlockFloor};
    Format squares = runs, gradients = runs;
    squares.granularity = Granularity::block_128x128;
    squares.provider = Provider::recorded;
    gradients.floor = 0x1p-100f;
    return {
        .name = "blockwise",
        .compute = Dtype::bf16,
        .activation = runs,
        .weight = squares,
        .output_grad = gradients,
    };
}

}  // namespace octavo
