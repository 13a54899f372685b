#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

template <class T>
void select(const KernelCall& call, Select op) {
    using C = compute_t<T>;
    const C a_factor = power_of_two(op.a_exponent), b_factor = power_of_two(op.b_exponent);
    const auto* mask = call.in[0].as<std::int32_t>();
    const T *a = call.in[1].as<T>(), *b = call.in[2].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         y[i] = round_to<T>(mask[i] != 0 ? C(a[i]) * a_factor : C(b[i]) * b_factor);
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<Select>(node.op);
    return dispatch_plain(node.in[1].dtype, [op](auto tag) {
        return Prepared{
            [op](const KernelCall& call) { select<typename decltype(tag)::type>(call, op); }};
    });
}

}  // namespace

void register_select(KernelRegistry& registry) {
    registry.add<Select>({"select", takes_all, prepare});
}

}  // namespace octavo::cpu
