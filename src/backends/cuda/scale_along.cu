#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

template <class T, bool kRow>
struct ScaledRows {
    using C = compute_t<T>;
    const T* x;
    const C* s;
    const T* acc;  // null: nothing to add
    T* y;
    std::int64_t columns;
    bool inverse;

    __device__ C factor(C s) const { return inverse ? C(1) / s : s; }

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const C whole = kRow ? factor(s[row]) : C(1);
        over_row<Team, N>(columns, [&](std::int64_t i) {
            C v[N], f[N], sum[N];
            load<N>(x + row * columns + i, v);
            if constexpr (!kRow) load<N>(s + i, f);
            if (acc) load<N>(acc + row * columns + i, sum);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                v[k] *= kRow ? whole : factor(f[k]);
                if (acc) v[k] += sum[k];
            }
            store<N>(y + row * columns + i, v);
        });
    }
};

template <class T, bool kRow>
void scale_along(const KernelCall& call, bool inverse) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    const T* acc = call.in.size() == 3 ? call.in[2].as<T>() : nullptr;
    for_rows("scale_along", shape.rows(), shape.last(),
             ScaledRows<T, kRow>{call.in[0].as<T>(), call.in[1].as<C>(), acc, call.out[0].as<T>(),
                                 shape.last(), inverse});
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[op = std::get<ScaleAlong>(node.op)](const KernelCall& call) {
            if (op.axis == Axis::row) return scale_along<T, true>(call, op.inverse);
            scale_along<T, false>(call, op.inverse);
        }};
    });
}

}  // namespace

void register_scale_along(KernelRegistry& registry) {
    registry.add<ScaleAlong>({"scale_along", takes_all, prepare});
}

}  // namespace octavo::cuda
