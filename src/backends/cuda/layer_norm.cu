#include "backends/cuda/norms.cuh"
#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

// Mean first, then squares about it: E[x^2] - E[x]^2 would cancel.
template <class T>
struct LayerNormRows {
    using C = compute_t<T>;
    const T* x;
    const C *w, *b;
    T* y;  // null: not asked for
    C *mean, *rstd;
    std::int64_t c;
    C eps;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const T* xr = x + row * c;
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
        if (Team::thread() == 0) {
            mean[row] = m;
            rstd[row] = r;
        }
        if (!y) return;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N];
            load<N>(xr + i, v);
            layer_normalise(v, m, r, w, b, i);
            store<N>(y + row * c + i, v);
        });
    }
};

Prepared prepare(const NodeView& node) {
    const auto op = std::get<LayerNorm>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[op](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            T* const y = op.statistics ? nullptr : call.out[0].as<T>();
            const auto statistics = call.out.last(2);
            for_rows("layer_norm", shape.rows(), shape.last(),
                     LayerNormRows<T>{call.in[0].as<T>(), call.in[1].as<C>(), call.in[2].as<C>(), y,
                                      statistics[0].as<C>(), statistics[1].as<C>(), shape.last(),
                                      C(op.eps)});
        }};
    });
}

}  // namespace

void register_layer_norm(KernelRegistry& registry) {
    registry.add<LayerNorm>({"layer_norm", takes_all, prepare});
}

}  // namespace octavo::cuda
