#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T>
void combine_grad(const KernelCall& call) {
    using C = compute_t<T>;
    const std::int64_t tokens = call.in[0].type.shape[0], c = call.in[0].type.shape[1];
    const std::int64_t k = call.in[2].type.shape[1];
    const T *dout = call.in[0].as<T>(), *y = call.in[1].as<T>();
    const auto *rows = call.in[2].as<std::int32_t>(), *choices = call.in[3].as<std::int32_t>();
    const C* gates = call.in[4].as<C>();
    T* dy = call.out[0].as<T>();
    C* dgates = call.out[1].as<C>();
    const std::int64_t all_rows = call.in[1].type.shape[0];
    parallel_for(tokens, row_grain(c * k), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t choice = begin * k; choice < end * k; ++choice) {
            const T *a = dout + choice / k * c, *b = y + rows[choice] * c;
            C sum = 0;
#pragma omp simd reduction(+ : sum)
            for (std::int64_t i = 0; i < c; ++i) sum += C(a[i]) * C(b[i]);
            dgates[choice] = sum;
        }
    });
    parallel_for(all_rows, row_grain(c), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            T* to = dy + r * c;
            const std::int32_t choice = choices[r];
            if (choice < 0) {
                std::fill_n(to, c, T{});
                continue;
            }
            const T* from = dout + choice / k * c;
            const C gate = gates[choice];
#pragma omp simd
            for (std::int64_t i = 0; i < c; ++i) to[i] = round_to<T>(gate * C(from[i]));
        }
    });
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

}  // namespace octavo::cpu
