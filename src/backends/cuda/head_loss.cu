#include "backends/head_loss.h"

#include "backends/cuda/cross_entropy.cuh"

namespace octavo::cuda {
namespace {

struct Gpu {
    static const KernelRegistry& registry() { return kernel_registry(); }

    template <class T, class C>
    static void losses_and_gradients(T* logits, const std::int32_t* targets, std::int64_t rows,
                                     std::int64_t v, const C* dloss, const C* weight, C* /*lse*/,
                                     double* loss) {
        row_losses_and_gradients(logits, targets, rows, v, dloss, weight, loss);
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
