#include <array>

#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T>
void combine(const KernelCall& call) {
    using C = compute_t<T>;
    constexpr std::int64_t kTile = 512;  // columns whose sums are kept at hand
    const Shape& shape = call.out[0].type.shape;
    const std::int64_t c = shape[1], k = call.in[1].type.shape[1];
    const T* y = call.in[0].as<T>();
    const std::int32_t* rows = call.in[1].as<std::int32_t>();
    const C* gates = call.in.size() > 3 ? call.in[3].as<C>() : nullptr;
    T* out = call.out[0].as<T>();
    parallel_for(shape[0], row_grain(c * k), [&](std::int64_t begin, std::int64_t end) {
        std::array<C, kTile> sums;
        for (std::int64_t t = begin; t < end; ++t) {
            for (std::int64_t first = 0; first < c; first += kTile) {
                const std::int64_t width = std::min(kTile, c - first);
                sums.fill(0);
                for (std::int64_t j = 0; j < k; ++j) {
                    const T* row = y + rows[t * k + j] * c + first;
                    const C gate = gates ? gates[t * k + j] : C(1);
#pragma omp simd
                    for (std::int64_t i = 0; i < width; ++i) sums[i] += gate * C(row[i]);
                }
                T* to = out + t * c + first;
#pragma omp simd
                for (std::int64_t i = 0; i < width; ++i) to[i] = round_to<T>(sums[i]);
            }
        }
    });
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype,
                          [](auto tag) { return Prepared{combine<typename decltype(tag)::type>}; });
}

}  // namespace

void register_combine(KernelRegistry& registry) {
    registry.add<Combine>({"combine", takes_all, prepare});
}

}  // namespace octavo::cpu
