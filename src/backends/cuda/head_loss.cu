#include "backends/head_loss.h"

#include "backends/cuda/cross_entropy.cuh"
#include "backends/cuda/matmul.h"

namespace octavo::cuda {
namespace {

struct Gpu {
    static const KernelRegistry& registry() { return kernel_registry(); }

    // Tensor cores read and write 16 bytes at a time, which rows of an odd vocabulary such as
    // GPT-2's 50257 do not begin at; rows of 128-byte multiples suit all kernels.
    static std::int64_t logits_stride(const Type& x, std::int64_t v) {
        constexpr std::int64_t kMultiple = 64;
        const bool sixteen = x.dtype == Dtype::bf16 || x.dtype == Dtype::f16;
        return sixteen && x.shape[1] > 0 ? ceil_div(v, kMultiple) * kMultiple : v;
    }

    static Prepared prepare_product(const Matmul& product, const Type& a, const Type& b,
                                    const RowStrides& strides) {
        return strides == RowStrides{} ? prepare_matmul(registry(), product, a, b)
                                       : prepare_strided_matmul(product, a, b, strides);
    }

    template <class T, class C>
    static void losses_and_gradients(T* logits, const std::int32_t* targets, std::int64_t rows,
                                     std::int64_t v, std::int64_t stride, const C* dloss,
                                     const C* weight, LogitFactors factors, C* /*lse*/,
                                     double* loss) {
        row_losses_and_gradients(logits, targets, rows, v, stride, dloss, weight, C(factors.logits),
                                 C(factors.gradient), loss);
    }

    template <class C>
    static void total_loss(const double* loss, std::int64_t rows, const C* weight, C* out) {
        cuda::total_loss(loss, rows, weight, out);
    }

    static void copy_or_clear(const void* from, void* to, std::int64_t bytes) {
        if (from) {
            copy(from, to, bytes);
        } else {
            clear(to, bytes);
        }
    }
};

}  // namespace

void register_head_loss(KernelRegistry& registry) {
    registry.add<HeadLoss>({"head_loss", takes_all, prepare_head_loss<Gpu>});
}

}  // namespace octavo::cuda
