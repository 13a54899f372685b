#include "backends/cuda/kernels.cuh"
#include "base/scale_rule.h"

namespace octavo::cuda {
namespace {

template <class T>
struct Selection {
    using C = compute_t<T>;
    const std::int32_t* mask;
    const T *a, *b;
    T* y;
    C a_factor, b_factor;

    template <int N>
    __device__ void run(std::int64_t i) const {
        const Packet<std::int32_t, N> chosen = read_packet<N>(mask + i);
        C x[N], other[N];
        load<N>(a + i, x);
        load<N>(b + i, other);
#pragma unroll
        for (int k = 0; k < N; ++k) {
            x[k] = chosen.x[k] != 0 ? x[k] * a_factor : other[k] * b_factor;
        }
        store<N>(y + i, x);
    }
};

Prepared prepare(const NodeView& node) {
    const auto op = std::get<Select>(node.op);
    return dispatch_plain(node.in[1].dtype, [op](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        return Prepared{[op](const KernelCall& call) {
            for_elements(
                "select", call.out[0].type.shape.elements(),
                Selection<T>{call.in[0].as<std::int32_t>(), call.in[1].as<T>(), call.in[2].as<T>(),
                             call.out[0].as<T>(), C(power_of_two(op.a_exponent)),
                             C(power_of_two(op.b_exponent))});
        }};
    });
}

}  // namespace

void register_select(KernelRegistry& registry) {
    registry.add<Select>({"select", takes_all, prepare});
}

}  // namespace octavo::cuda
