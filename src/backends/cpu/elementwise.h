// Ops of one operand that compute each element by itself.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {

// y = f(x), rounded, for every element x widened to compute_t of its type: any of dispatch_plain's.
template <class F>
Prepared prepare_map(const NodeView& node, F f) {
    return dispatch_plain(node.in[0].dtype, [f](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[f](const KernelCall& call) {
            const T* x = call.in[0].as<T>();
            T* y = call.out[0].as<T>();
            parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                         [&](std::int64_t begin, std::int64_t end) {
                             const F own = f;  // no store to y can change it
#pragma omp simd
                             for (std::int64_t i = begin; i < end; ++i) {
                                 y[i] = round_to<T>(own(compute_t<T>(x[i])));
                             }
                         });
        }};
    });
}

}  // namespace octavo::cpu
