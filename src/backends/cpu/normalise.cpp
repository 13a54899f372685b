#include "backends/cpu/kernels.h"
#include "backends/cpu/norm.h"

namespace octavo::cpu {
namespace {

template <class T>
void normalise(const KernelCall& call) {
    using C = compute_t<T>;
    const T* x = call.in[0].as<T>();
    const C* w = call.in[1].as<C>();
    const bool layer = call.in.size() == 5;
    const C* b = layer ? call.in[2].as<C>() : nullptr;
    const C* mean = layer ? call.in[3].as<C>() : nullptr;
    const C* rstd = call.in.back().as<C>();
    T* y = call.out[0].as<T>();
    const std::int64_t c = call.in[0].type.shape.last();
    parallel_for(call.in[0].type.shape.rows(), row_grain(c),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         const std::int64_t at = row * c;
                         if (layer) {
                             layer_row(x + at, mean[row], rstd[row], w, b, y + at, c);
                         } else {
                             rms_row(x + at, rstd[row], w, y + at, c);
                         }
                     }
                 });
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

}  // namespace octavo::cpu
