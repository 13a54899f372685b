#include <cmath>

#include "backends/cpu/kernels.h"
#include "backends/cpu/norm.h"

namespace octavo::cpu {
namespace {

template <class T>
void rms_norm(const KernelCall& call, const RmsNorm& op) {
    using C = compute_t<T>;
    const T* x = call.in[0].as<T>();
    const C* w = call.in[1].as<C>();
    T* y = op.statistics ? nullptr : call.out[0].as<T>();
    C* rstd = call.out.back().as<C>();
    const std::int64_t c = call.in[0].type.shape.last();
    parallel_for(call.in[0].type.shape.rows(), row_grain(c),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         const T* xr = x + row * c;
                         C squares = 0;
#pragma omp simd reduction(+ : squares)
                         for (std::int64_t i = 0; i < c; ++i) squares += C(xr[i]) * C(xr[i]);
                         const C r = C(1) / std::sqrt(squares / C(c) + C(op.eps));
                         if (y) rms_row(xr, r, w, y + row * c, c);
                         rstd[row] = r;
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<RmsNorm>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        return Prepared{
            [op](const KernelCall& call) { rms_norm<typename decltype(tag)::type>(call, op); }};
    });
}

}  // namespace

void register_rms_norm(KernelRegistry& registry) {
    registry.add<RmsNorm>({"rms_norm", takes_all, prepare});
}

}  // namespace octavo::cpu
