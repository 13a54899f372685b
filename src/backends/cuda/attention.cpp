#include "backends/cuda/attention.h"

#include "backends/cuda/attention_cudnn.h"

namespace octavo::cuda {

void register_attention(KernelRegistry& registry) {
    registry.add<Attention>(
        {"cudnn", reject_attention_cudnn, prepare_attention_cudnn, /*in_place=*/false});
    registry.add<Attention>({"rows", reject_attention_rows, prepare_attention_rows});
}

}  // namespace octavo::cuda
