#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

template <class T>
void sum_rows(const KernelCall& call) {
    using C = compute_t<T>;
    const T* x = call.in[0].as<T>();
    const Shape& shape = call.in[0].type.shape;
    const std::int64_t n = shape.last();
    sum_over_row_chunks<C>(shape.rows(), n, call.scratch, call.out[0].as<C>(),
                           [&](std::int64_t begin, std::int64_t end, C* partial) {
                               for (std::int64_t row = begin; row < end; ++row) {
                                   const T* xr = x + row * n;
#pragma omp simd
                                   for (std::int64_t i = 0; i < n; ++i) partial[i] += C(xr[i]);
                               }
                           });
}

Prepared prepare(const NodeView& node) {
    const Shape& shape = node.in[0].shape;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{sum_rows<T>, row_chunk_bytes<compute_t<T>>(shape.rows(), shape.last())};
    });
}

}  // namespace

void register_sum_rows(KernelRegistry& registry) {
    registry.add<SumRows>({"sum_rows", takes_all, prepare});
}

}  // namespace octavo::cpu
