#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "backends/followed_by.h"

namespace octavo::cpu {
namespace {

// One thread's rows of dx, and its share of dw and db in `partial` (2C), which starts at zero.
template <class T, class C>
void backward_rows(const KernelCall& call, std::int64_t begin, std::int64_t end, C* partial) {
    const T *x = call.in[0].as<T>(), *dy = call.in[4].as<T>();
    const C *w = call.in[1].as<C>(), *mean = call.in[2].as<C>(), *rstd = call.in[3].as<C>();
    const T* acc = call.in.size() > 5 ? call.in[5].as<T>() : nullptr;
    T* dx = call.out[0].as<T>();
    const std::int64_t c = call.in[0].type.shape.last();
    C *dw = partial, *db = partial + c;
    for (std::int64_t row = begin; row < end; ++row) {
        const T *xr = x + row * c, *dyr = dy + row * c;
        T* dxr = dx + row * c;
        const C m = mean[row], r = rstd[row];
        C sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
        for (std::int64_t i = 0; i < c; ++i) {
            const C g = C(dyr[i]) * w[i];
            sum += g;
            dot += g * ((C(xr[i]) - m) * r);
        }
        const C mean_g = sum / C(c), mean_gn = dot / C(c);
#pragma omp simd
        for (std::int64_t i = 0; i < c; ++i) {
            const C d = C(dyr[i]), n = (C(xr[i]) - m) * r;
            dw[i] += d * n;
            db[i] += d;
            const C own = r * (d * w[i] - mean_g - n * mean_gn);
            dxr[i] = round_to<T>(acc ? own + C(acc[row * c + i]) : own);
        }
    }
}

template <class T>
void layer_norm_grad(const KernelCall& call) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    const std::int64_t c = shape.last();
    C* sums = reinterpret_cast<C*>(call.scratch);  // dw, db; then the partial sums
    std::byte* partials = reinterpret_cast<std::byte*>(sums + 2 * c);
    sum_over_row_chunks<C>(shape.rows(), 2 * c, partials, sums,
                           [&](std::int64_t begin, std::int64_t end, C* partial) {
                               backward_rows<T, C>(call, begin, end, partial);
                           });
    std::copy_n(sums, c, call.out[1].as<C>());
    std::copy_n(sums + c, c, call.out[2].as<C>());
}

Prepared prepare_gradient(const NodeView& node) {
    const Shape& shape = node.in[0].shape;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        const auto sums = 2 * shape.last() * static_cast<std::int64_t>(sizeof(C));
        return Prepared{layer_norm_grad<T>,
                        sums + row_chunk_bytes<C>(shape.rows(), 2 * shape.last())};
    });
}

Prepared prepare(const NodeView& node) {
    const auto& measure = std::get<LayerNormGrad>(node.op).measure;
    const Prepared gradient = prepare_gradient(node);
    return measure ? followed_by(kernel_registry(), node, gradient, 5, 3, *measure) : gradient;
}

}  // namespace

void register_layer_norm_grad(KernelRegistry& registry) {
    registry.add<LayerNormGrad>({"layer_norm_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
