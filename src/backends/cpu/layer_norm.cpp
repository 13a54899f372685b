#include <cmath>

#include "backends/cpu/kernels.h"
#include "backends/cpu/norm.h"

namespace octavo::cpu {
namespace {

// Mean first, then squares about it: E[x^2] - E[x]^2 would cancel. A row stays in the cache.
template <class T>
void layer_norm(const KernelCall& call, const LayerNorm& op) {
    using C = compute_t<T>;
    const T* x = call.in[0].as<T>();
    const C *w = call.in[1].as<C>(), *b = call.in[2].as<C>();
    T* y = op.statistics ? nullptr : call.out[0].as<T>();
    const auto statistics = call.out.last(2);
    C *mean = statistics[0].as<C>(), *rstd = statistics[1].as<C>();
    const std::int64_t c = call.in[0].type.shape.last();
    parallel_for(call.in[0].type.shape.rows(), row_grain(c),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         const T* xr = x + row * c;
                         C sum = 0;
#pragma omp simd reduction(+ : sum)
                         for (std::int64_t i = 0; i < c; ++i) sum += C(xr[i]);
                         const C m = sum / C(c);
                         C squares = 0;
#pragma omp simd reduction(+ : squares)
                         for (std::int64_t i = 0; i < c; ++i) {
                             squares += (C(xr[i]) - m) * (C(xr[i]) - m);
                         }
                         const C r = C(1) / std::sqrt(squares / C(c) + C(op.eps));
                         if (y) layer_row(xr, m, r, w, b, y + row * c, c);
                         mean[row] = m;
                         rstd[row] = r;
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<LayerNorm>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        return Prepared{
            [op](const KernelCall& call) { layer_norm<typename decltype(tag)::type>(call, op); }};
    });
}

}  // namespace

void register_layer_norm(KernelRegistry& registry) {
    registry.add<LayerNorm>({"layer_norm", takes_all, prepare});
}

}  // namespace octavo::cpu
