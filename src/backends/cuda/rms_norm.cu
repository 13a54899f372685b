#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct RmsNormRows {
    using C = compute_t<T>;
    const T* x;
    const C* w;
    T* y;
    C* rstd;
    std::int64_t c;
    C eps;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const T* xr = x + row * c;
        T* yr = y + row * c;
        C squares = 0;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N];
            load<N>(xr + i, v);
#pragma unroll
            for (int k = 0; k < N; ++k) squares += v[k] * v[k];
        });
        const C r = C(1) / sqrt(Team::sum(squares) / C(c) + eps);
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N], factor[N];
            load<N>(xr + i, v);
            load<N>(w + i, factor);
#pragma unroll
            for (int k = 0; k < N; ++k) v[k] = v[k] * r * factor[k];
            store<N>(yr + i, v);
        });
        if (Team::thread() == 0) rstd[row] = r;
    }
};

Prepared prepare(const NodeView& node) {
    const float eps = std::get<RmsNorm>(node.op).eps;
    return dispatch_plain(node.in[0].dtype, [eps](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[eps](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            for_rows("rms_norm", shape.rows(), shape.last(),
                     RmsNormRows<T>{call.in[0].as<T>(), call.in[1].as<C>(), call.out[0].as<T>(),
                                    call.out[1].as<C>(), shape.last(), C(eps)});
        }};
    });
}

}  // namespace

void register_rms_norm(KernelRegistry& registry) {
    registry.add<RmsNorm>({"rms_norm", takes_all, prepare});
}

}  // namespace octavo::cuda
