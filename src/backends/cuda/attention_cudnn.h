// Fused attention by cuDNN: causal, without positions, bf16 or f16.
#pragma once

#include "backends/cuda/kernels.h"

namespace octavo::cuda {

Refusal reject_attention_cudnn(const NodeView&);
Prepared prepare_attention_cudnn(const NodeView&);
Refusal reject_attention_grad_cudnn(const NodeView&);
Prepared prepare_attention_grad_cudnn(const NodeView&);

}  // namespace octavo::cuda
