#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "backends/followed_by.h"
#include "backends/propagation.h"

namespace octavo::cpu {
namespace {

template <class T>
void scaled_add(const KernelCall& call, ScaledAdd op) {
    using C = compute_t<T>;
    const auto scale = [&](std::size_t i) { return *call.in[i].as<float>(); };
    const SumFactors f = sum_factors(op, scale(1), scale(3), scale(4), scale(5));
    const T *a = call.in[0].as<T>(), *b = call.in[2].as<T>();
    const C a_factor = f.a, b_factor = f.b;
    T* z = call.out[0].as<T>();
    *call.out[1].as<float>() = f.scale;
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         z[i] = round_to<T>(C(a[i]) * a_factor + C(b[i]) * b_factor);
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<ScaledAdd>(node.op);
    const Prepared sum = dispatch_plain(node.in[0].dtype, [op](auto tag) {
        return Prepared{
            [op](const KernelCall& call) { scaled_add<typename decltype(tag)::type>(call, op); }};
    });
    return op.cast ? followed_by(kernel_registry(), node, sum, 6, 2, *op.cast) : sum;
}

}  // namespace

void register_scaled_add(KernelRegistry& registry) {
    registry.add<ScaledAdd>({"scaled_add", takes_all, prepare});
}

}  // namespace octavo::cpu
