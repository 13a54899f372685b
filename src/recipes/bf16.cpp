#include "recipes/table.h"

namespace octavo {

// Mixed precision as usual: f32 masters, moments and gradients, everything else in bf16.
Recipe bf16_recipe() { return {.name = "bf16", .compute = Dtype::bf16}; }

}  // namespace octavo
