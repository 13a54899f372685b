#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "backends/followed_by.h"

namespace octavo::cpu {
namespace {

// One thread's rows of dx, and its share of dw in `partial`, which starts at zero.
template <class T, class C>
void backward_rows(const KernelCall& call, std::int64_t begin, std::int64_t end, C* partial) {
    const T *x = call.in[0].as<T>(), *dy = call.in[3].as<T>();
    const C *w = call.in[1].as<C>(), *rstd = call.in[2].as<C>();
    const T* acc = call.in.size() > 4 ? call.in[4].as<T>() : nullptr;
    T* dx = call.out[0].as<T>();
    const std::int64_t c = call.in[0].type.shape.last();
    for (std::int64_t row = begin; row < end; ++row) {
        const T *xr = x + row * c, *dyr = dy + row * c;
        T* dxr = dx + row * c;
        const C r = rstd[row];
        C dot = 0;
#pragma omp simd reduction(+ : dot)
        for (std::int64_t i = 0; i < c; ++i) dot += C(dyr[i]) * w[i] * C(xr[i]);
        const C shared = dot * r * r / C(c);
#pragma omp simd
        for (std::int64_t i = 0; i < c; ++i) {
            const C d = C(dyr[i]), v = C(xr[i]);
            partial[i] += d * v * r;
            const C own = r * (d * w[i] - v * shared);
            dxr[i] = round_to<T>(acc ? own + C(acc[row * c + i]) : own);
        }
    }
}

template <class T>
void rms_norm_grad(const KernelCall& call) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    sum_over_row_chunks<C>(shape.rows(), shape.last(), call.scratch, call.out[1].as<C>(),
                           [&](std::int64_t begin, std::int64_t end, C* partial) {
                               backward_rows<T, C>(call, begin, end, partial);
                           });
}

Prepared prepare_gradient(const NodeView& node) {
    const Shape& shape = node.in[0].shape;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{rms_norm_grad<T>,
                        row_chunk_bytes<compute_t<T>>(shape.rows(), shape.last())};
    });
}

Prepared prepare(const NodeView& node) {
    const auto& measure = std::get<RmsNormGrad>(node.op).measure;
    const Prepared gradient = prepare_gradient(node);
    return measure ? followed_by(kernel_registry(), node, gradient, 4, 2, *measure) : gradient;
}

}  // namespace

void register_rms_norm_grad(KernelRegistry& registry) {
    registry.add<RmsNormGrad>({"rms_norm_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
