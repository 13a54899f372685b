#include "backends/cuda/attention.h"

namespace octavo::cuda {

void register_attention_grad(KernelRegistry& registry) {
    registry.add<AttentionGrad>({"rows", reject_attention_grad_rows, prepare_attention_grad_rows});
}

}  // namespace octavo::cuda
