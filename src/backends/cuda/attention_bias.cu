#include "backends/cuda/attention_cudnn.h"
#include "backends/cuda/attention_rows.cuh"

namespace octavo::cuda {
namespace {

// Far below all scores, so that e^ of it is 0, and finite, so that a tile of nothing else is no
// NaN. f16 holds it.
constexpr float kHidden = -60000;

template <class T>
struct DocumentBias {
    const std::int32_t* starts;
    T* bias;
    std::int64_t t;

    template <int N>
    __device__ void run(std::int64_t i) const {
        std::int64_t row = i / t, key = i % t;  // of (B * T, T)
        std::int64_t first = first_key(starts[row], row % t);
        float x[N];
#pragma unroll
        for (int k = 0; k < N; ++k) {
            x[k] = key < first ? kHidden : 0.0f;
            if (++key == t && k + 1 < N) {
                key = 0;
                ++row;
                first = first_key(starts[row], row % t);
            }
        }
        store<N>(bias + i, x);
    }
};

}  // namespace

void write_document_bias(Dtype dtype, const std::int32_t* starts, void* bias, std::int64_t b,
                         std::int64_t t) {
    const auto write = [&]<class T>(T* out) {
        for_elements("document_bias", b * t * t, DocumentBias<T>{starts, out, t});
    };
    dtype == Dtype::bf16 ? write(static_cast<bf16*>(bias)) : write(static_cast<f16*>(bias));
}

}  // namespace octavo::cuda
