#include "backends/cuda/norms.cuh"
#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct RmsNormRows {
    using C = compute_t<T>;
    const T* x;
    const C* w;
    T* y;  // null: not asked for
    C* rstd;
    std::int64_t c;
    C eps;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const T* xr = x + row * c;
        C squares = 0;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N];
            load<N>(xr + i, v);
#pragma unroll
            for (int k = 0; k < N; ++k) squares += v[k] * v[k];
        });
        const C r = C(1) / sqrt(Team::sum(squares) / C(c) + eps);
        if (Team::thread() == 0) rstd[row] = r;
        if (!y) return;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N];
            load<N>(xr + i, v);
            rms_normalise(v, r, w, i);
            store<N>(y + row * c + i, v);
        });
    }
};

Prepared prepare(const NodeView& node) {
    const auto op = std::get<RmsNorm>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[op](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            T* const y = op.statistics ? nullptr : call.out[0].as<T>();
            for_rows("rms_norm", shape.rows(), shape.last(),
                     RmsNormRows<T>{call.in[0].as<T>(), call.in[1].as<C>(), y,
                                    call.out.back().as<C>(), shape.last(), C(op.eps)});
        }};
    });
}

}  // namespace

void register_rms_norm(KernelRegistry& registry) {
    registry.add<RmsNorm>({"rms_norm", takes_all, prepare});
}

}  // namespace octavo::cuda
