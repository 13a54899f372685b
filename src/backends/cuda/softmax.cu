#include "backends/cuda/cross_entropy.cuh"
#include "backends/cuda/rows.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

template <class T>
struct SoftmaxRows {
    using C = compute_t<T>;
    const T* x;
    T* y;
    std::int64_t c;
    C k, factor;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        const T* xr = x + row * c;
        ExpSum<T> mine;
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N];
            load<N>(xr + i, v);
            mine.add(v, k);
        });
        const C top = Team::max(mine.top);
        const double part = double(mine.sum) * exp(double(mine.top) - double(top));
        const C inv_sum = C(1 / Team::sum(part));
        over_row<Team, N>(c, [&](std::int64_t i) {
            C v[N];
            load<N>(xr + i, v);
#pragma unroll
            for (int j = 0; j < N; ++j) v[j] = exponential<T>(v[j] * k - top) * inv_sum * factor;
            store<N>(y + row * c + i, v);
        });
    }
};

Prepared prepare(const NodeView& node) {
    const auto op = std::get<Softmax>(node.op);
    return dispatch_plain(node.in[0].dtype, [op](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[op](const KernelCall& call) {
            const Shape& shape = call.in[0].type.shape;
            for_rows(
                "softmax", shape.rows(), shape.last(),
                SoftmaxRows<T>{call.in[0].as<T>(), call.out[0].as<T>(), shape.last(),
                               C(power_of_two(op.exponent)), C(power_of_two(op.result_exponent))});
        }};
    });
}

}  // namespace

void register_softmax(KernelRegistry& registry) {
    registry.add<Softmax>({"softmax", takes_all, prepare});
}

}  // namespace octavo::cuda
