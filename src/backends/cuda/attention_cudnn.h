// Fused attention by cuDNN: causal, bf16 or f16. Documents are kept apart by a bias in the dtype of
// q, written anew in every call: B T^2 elements that all heads share.
#pragma once

#include "backends/cuda/kernels.h"

namespace octavo::cuda {

// 0 where a query may see a key, as far as documents go, else so little that e^ of it is 0.
//     starts (B, T) i32 -> bias (B, 1, T, T), bf16 or f16
void write_document_bias(Dtype dtype, const std::int32_t* starts, void* bias, std::int64_t b,
                         std::int64_t t);

Refusal reject_attention_cudnn(const NodeView&);
Prepared prepare_attention_cudnn(const NodeView&);
Refusal reject_attention_grad_cudnn(const NodeView&);
Prepared prepare_attention_grad_cudnn(const NodeView&);

}  // namespace octavo::cuda
