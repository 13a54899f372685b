#include "backends/cuda/column_sums.cuh"

namespace octavo::cuda {
namespace {

template <class T>
struct SumOfRows {
    using C = compute_t<T>;
    const T* x;
    std::int64_t n;

    template <int N>
    __device__ void run(std::int64_t row, std::int64_t column, C (&sums)[1][N]) const {
        C v[N];
        load<N>(x + row * n + column, v);
#pragma unroll
        for (int k = 0; k < N; ++k) sums[0][k] += v[k];
    }
};

Prepared prepare(const NodeView& node) {
    const std::int64_t rows = node.in[0].shape.rows(), n = node.in[0].shape.last();
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        const auto run = [rows, n](const KernelCall& call) {
            C* partials = reinterpret_cast<C*>(call.scratch);
            column_partials<1>("sum_rows", rows, n, partials, SumOfRows<T>{call.in[0].as<T>(), n});
            add_partials("sum_rows", partials, row_chunks(rows, n), n, call.out[0].as<C>());
        };
        return Prepared{run, partial_bytes<C>(rows, n)};
    });
}

}  // namespace

void register_sum_rows(KernelRegistry& registry) {
    registry.add<SumRows>({"sum_rows", takes_all, prepare});
}

}  // namespace octavo::cuda
