#include "backends/cuda/attention.h"

namespace octavo::cuda {

void register_attention(KernelRegistry& registry) {
    registry.add<Attention>({"rows", reject_attention_rows, prepare_attention_rows});
}

}  // namespace octavo::cuda
