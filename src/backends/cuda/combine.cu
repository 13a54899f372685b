#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct CombineRows {
    using C = compute_t<T>;
    const T* y;
    const std::int32_t* rows;
    const C* gates;  // null: 1
    T* out;
    std::int64_t c, k;

    template <class Team, int N>
    __device__ void run(std::int64_t token) const {
        over_row<Team, N>(c, [&](std::int64_t i) {
            C sum[N] = {};
            for (std::int64_t j = token * k; j < (token + 1) * k; ++j) {
                const C gate = gates ? gates[j] : C(1);
                C x[N];
                load<N>(y + rows[j] * c + i, x);
#pragma unroll
                for (int n = 0; n < N; ++n) sum[n] += gate * x[n];
            }
            store<N>(out + token * c + i, sum);
        });
    }
};

template <class T>
void combine(const KernelCall& call) {
    using C = compute_t<T>;
    const Shape& shape = call.out[0].type.shape;
    if (shape[1] == 0) return;
    for_rows("combine", shape[0], shape[1],
             CombineRows<T>{.y = call.in[0].as<T>(),
                            .rows = call.in[1].as<std::int32_t>(),
                            .gates = call.in.size() > 3 ? call.in[3].as<C>() : nullptr,
                            .out = call.out[0].as<T>(),
                            .c = shape[1],
                            .k = call.in[1].type.shape[1]});
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype,
                          [](auto tag) { return Prepared{combine<typename decltype(tag)::type>}; });
}

}  // namespace

void register_combine(KernelRegistry& registry) {
    registry.add<Combine>({"combine", takes_all, prepare});
}

}  // namespace octavo::cuda
