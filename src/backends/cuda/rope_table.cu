#include "backends/cuda/rope_table.h"

#include <vector>

#include "backends/cuda/kernels.cuh"
#include "ops/rope.h"

namespace octavo::cuda {

template <class C>
RopeTable<C>::RopeTable(std::int64_t positions, std::int64_t half) {
    const std::int64_t elements = std::max<std::int64_t>(positions * half, 1);
    expect(cudaMalloc(reinterpret_cast<void**>(&cosine),
                      static_cast<std::size_t>(2 * elements) * sizeof(C)),
           "cudaMalloc of a rope table");
    sine = cosine + elements;
}

template <class C>
RopeTable<C>::~RopeTable() {
    cudaFree(cosine);
}

namespace {

// Column `i` of the table.
template <class C>
__global__ void __launch_bounds__(kBlock)
    rope_table_kernel(double frequency, std::int64_t i, std::int64_t positions, std::int64_t half,
                      C* cosine, C* sine) {
    const std::int64_t p = std::int64_t{blockIdx.x} * kBlock + threadIdx.x;
    if (p >= positions) return;
    const double angle = static_cast<double>(p) * frequency;
    cosine[p * half + i] = static_cast<C>(cos(angle));
    sine[p * half + i] = static_cast<C>(sin(angle));
}

template <class C>
std::shared_ptr<const RopeTable<C>> make_table(const Rope& op, std::int64_t positions,
                                               std::int64_t half) {
    auto table = std::make_shared<RopeTable<C>>(positions, half);
    if (positions == 0) return table;
    const std::vector<double> frequencies = rope_frequencies(op, half);
    for (std::int64_t i = 0; i < half; ++i) {
        rope_table_kernel<<<static_cast<unsigned>(ceil_div(positions, kBlock)), kBlock, 0,
                            stream()>>>(frequencies[static_cast<std::size_t>(i)], i, positions,
                                        half, table->cosine, table->sine);
        launched("rope_table");
    }
    return table;
}

}  // namespace

template <class C>
std::shared_ptr<const RopeTable<C>> rope_table(const Rope& op, std::int64_t positions,
                                               std::int64_t half) {
    return shared_rope_table<RopeTable<C>>(op, positions, half,
                                           [&] { return make_table<C>(op, positions, half); });
}

template struct RopeTable<float>;
template struct RopeTable<double>;
template std::shared_ptr<const RopeTable<float>> rope_table(const Rope&, std::int64_t,
                                                            std::int64_t);
template std::shared_ptr<const RopeTable<double>> rope_table(const Rope&, std::int64_t,
                                                             std::int64_t);

}  // namespace octavo::cuda
