#include "backends/cuda/attention.h"
#include "backends/cuda/attention_cudnn.h"

namespace octavo::cuda {

void register_attention_grad(KernelRegistry& registry) {
    registry.add<AttentionGrad>(
        {"cudnn", reject_attention_grad_cudnn, prepare_attention_grad_cudnn, /*in_place=*/false});
    registry.add<AttentionGrad>({"rows", reject_attention_grad_rows, prepare_attention_grad_rows});
}

}  // namespace octavo::cuda
