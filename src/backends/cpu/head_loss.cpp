#include "backends/head_loss.h"

#include "backends/cpu/cross_entropy.h"

namespace octavo::cpu {
namespace {

struct Host {
    static const KernelRegistry& registry() { return kernel_registry(); }

    static std::int64_t logits_stride(const Type& /*x*/, std::int64_t v) { return v; }

    static Prepared prepare_product(const Matmul& product, const Type& a, const Type& b,
                                    const RowStrides& /*none*/) {
        return prepare_matmul(registry(), product, a, b);
    }

    template <class T, class C>
    static void losses_and_gradients(T* logits, const std::int32_t* targets, std::int64_t rows,
                                     std::int64_t v, std::int64_t /*stride*/, const C* dloss,
                                     const C* weight, LogitFactors factors, C* lse, double* loss) {
        row_losses(logits, targets, rows, v, C(factors.logits), lse, loss);
        row_gradients(logits, targets, lse, rows, v, C(factors.logits),
                      *dloss * *weight * C(factors.gradient), logits);
    }

    template <class C>
    static void total_loss(const double* loss, std::int64_t rows, const C* weight, C* out) {
        *out = cpu::total_loss(loss, rows, *weight);
    }

    static void copy_or_clear(const void* from, void* to, std::int64_t bytes) {
        auto* target = static_cast<std::byte*>(to);
        if (from == to) return;
        if (from) {
            std::copy_n(static_cast<const std::byte*>(from), bytes, target);
        } else {
            std::fill_n(target, bytes, std::byte{0});
        }
    }
};

}  // namespace

void register_head_loss(KernelRegistry& registry) {
    registry.add<HeadLoss>({"head_loss", takes_all, prepare_head_loss<Host>});
}

}  // namespace octavo::cpu
