#include "backends/cuda/norms.cuh"
#include "backends/cuda/rows.cuh"

namespace octavo::cuda {
namespace {

template <class T, class Norm>
struct NormalisedRows {
    const T* x;
    T* y;
    std::int64_t columns;
    Norm norm;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        over_row<Team, N>(columns, [&](std::int64_t i) {
            compute_t<T> v[N];
            load<N>(x + row * columns + i, v);
            norm.apply(row, i, v);
            store<N>(y + row * columns + i, v);
        });
    }
};

template <class T>
void normalise(const KernelCall& call) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;
    const auto vector = [&](std::size_t i) { return call.in[i].as<C>(); };
    const auto with = [&]<class Norm>(const Norm& norm) {
        for_rows(
            "normalise", shape.rows(), shape.last(),
            NormalisedRows<T, Norm>{call.in[0].as<T>(), call.out[0].as<T>(), shape.last(), norm});
    };
    if (call.in.size() == 3) return with(RmsFunction<C>{vector(1), vector(2)});
    with(LayerFunction<C>{vector(1), vector(2), vector(3), vector(4)});
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [](auto tag) {
        return Prepared{
            [](const KernelCall& call) { normalise<typename decltype(tag)::type>(call); }};
    });
}

}  // namespace

void register_normalise(KernelRegistry& registry) {
    registry.add<Normalise>({"normalise", takes_all, prepare});
}

}  // namespace octavo::cuda
