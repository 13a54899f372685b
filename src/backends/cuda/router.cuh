// What the kernels of routers share: a warp works on a token.
#pragma once

#include "backends/cuda/kernels.cuh"
#include "backends/router.h"

namespace octavo::cuda {

// Some of a token's logits, by which its probabilities are normalised: all, or those it chose.
template <class C>
struct Logits {
    const C* row;
    std::int64_t count;
    const std::int32_t* ids = nullptr;  // null: the first `count`

    __device__ C operator[](std::int64_t i) const { return row[ids ? ids[i] : i]; }
};

// Their softmax: e^(logit - top) / sum. Made by all lanes of a warp.
template <class C>
struct Softmax {
    C top, sum;

    __device__ explicit Softmax(const Logits<C>& logits) : top(logits[0]), sum(0) {
        const int lane = threadIdx.x % kWarp;
        for (std::int64_t i = lane; i < logits.count; i += kWarp) top = fmax(top, logits[i]);
        top = warp_max(top);
        for (std::int64_t i = lane; i < logits.count; i += kWarp) sum += exp(logits[i] - top);
        sum = warp_sum(sum);
    }
    __device__ C operator()(C logit) const { return exp(logit - top) / sum; }
    __device__ C logsumexp() const { return top + log(sum); }
};

template <class Body>
__global__ void __launch_bounds__(kBlock) token_kernel(std::int64_t tokens, Body body) {
    const std::int64_t token = std::int64_t{blockIdx.x} * (kBlock / kWarp) + threadIdx.x / kWarp;
    if (token < tokens) body(token, static_cast<int>(threadIdx.x % kWarp));
}

// body(token, lane), a warp for each token.
template <class Body>
void for_tokens(std::string_view what, std::int64_t tokens, const Body& body) {
    if (tokens == 0) return;
    const auto blocks = static_cast<unsigned>(ceil_div(tokens, kBlock / kWarp));
    token_kernel<<<blocks, kBlock, 0, stream()>>>(tokens, body);
    launched(what);
}

}  // namespace octavo::cuda
