#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct GateGradients {
    using C = compute_t<T>;
    const T *dout, *y;
    const std::int32_t* rows;
    C* dgates;
    std::int64_t c, k;

    template <class Team, int N>
    __device__ void run(std::int64_t choice) const {
        const T *a = dout + choice / k * c, *b = y + rows[choice] * c;
        C sum = 0;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C p[N], q[N];
            load<N>(a + i, p);
            load<N>(b + i, q);
#pragma unroll
            for (int n = 0; n < N; ++n) sum += p[n] * q[n];
        });
        sum = Team::sum(sum);
        if (Team::thread() == 0) dgates[choice] = sum;
    }
};

template <class T>
struct RowGradients {
    using C = compute_t<T>;
    const T* dout;
    const std::int32_t* choices;
    const C* gates;
    T* dy;
    std::int64_t c, k;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const std::int32_t choice = choices[row];
        const C gate = choice < 0 ? C(0) : gates[choice];
        over_row<Team, N>(c, [&](std::int64_t i) {
            C d[N] = {};
            if (choice >= 0) load<N>(dout + choice / k * c + i, d);
#pragma unroll
            for (int n = 0; n < N; ++n) d[n] *= gate;
            store<N>(dy + row * c + i, d);
        });
    }
};

template <class T>
void combine_grad(const KernelCall& call) {
    using C = compute_t<T>;
    const T* dout = call.in[0].as<T>();
    const std::int64_t c = call.in[0].type.shape[1], k = call.in[2].type.shape[1];
    for_rows("combine_grad", call.in[2].type.shape.elements(), c,
             GateGradients<T>{.dout = dout,
                              .y = call.in[1].as<T>(),
                              .rows = call.in[2].as<std::int32_t>(),
                              .dgates = call.out[1].as<C>(),
                              .c = c,
                              .k = k});
    for_rows("combine_grad", call.in[1].type.shape[0], c,
             RowGradients<T>{.dout = dout,
                             .choices = call.in[3].as<std::int32_t>(),
                             .gates = call.in[4].as<C>(),
                             .dy = call.out[0].as<T>(),
                             .c = c,
                             .k = k});
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [](auto tag) {
        return Prepared{combine_grad<typename decltype(tag)::type>};
    });
}

}  // namespace

void register_combine_grad(KernelRegistry& registry) {
    registry.add<CombineGrad>({"combine_grad", takes_all, prepare});
}

}  // namespace octavo::cuda
