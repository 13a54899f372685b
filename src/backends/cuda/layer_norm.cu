#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

// Mean first, then squares about it: E[x^2] - E[x]^2 would cancel.
template <class T>
struct LayerNormRows {
    using C = compute_t<T>;
    const T* x;
    const C *w, *b;
    T* y;
    C *mean, *rstd;
    std::int64_t c;
    C eps;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const T* xr = x + row * c;
        T* yr = y + row * c;
        C sum = 0;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N];
            load<N>(xr + i, v);
#pragma unroll
            for (int k = 0; k < N; ++k) sum += v[k];
        });
        const C m = Team::sum(sum) / C(c);
        C squares = 0;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N];
            load<N>(xr + i, v);
#pragma unroll
            for (int k = 0; k < N; ++k) squares += (v[k] - m) * (v[k] - m);
        });
        const C r = C(1) / sqrt(Team::sum(squares) / C(c) + eps);
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N], factor[N], offset[N];
            load<N>(xr + i, v);
            load<N>(w + i, factor);
            load<N>(b + i, offset);
#pragma unroll
            for (int k = 0; k < N; ++k) v[k] = (v[k] - m) * r * factor[k] + offset[k];
            store<N>(yr + i, v);
        });
        if (Team::thread() == 0) {
            mean[row] = m;
            rstd[row] = r;
        }
    }
};

Prepared prepare(const NodeView& node) {
    const float eps = std::get<LayerNorm>(node.op).eps;
    return dispatch_plain(node.in[0].dtype, [eps](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[eps](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            for_rows("layer_norm", shape.rows(), shape.last(),
                     LayerNormRows<T>{call.in[0].as<T>(), call.in[1].as<C>(), call.in[2].as<C>(),
                                      call.out[0].as<T>(), call.out[1].as<C>(), call.out[2].as<C>(),
                                      shape.last(), C(eps)});
        }};
    });
}

}  // namespace

void register_layer_norm(KernelRegistry& registry) {
    registry.add<LayerNorm>({"layer_norm", takes_all, prepare});
}

}  // namespace octavo::cuda
