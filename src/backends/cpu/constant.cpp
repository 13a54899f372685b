#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

template <class T>
void fill(const TensorRef& y, T value) {
    T* p = y.as<T>();
    parallel_for(y.type.shape.elements(), row_grain(1), [&](std::int64_t begin, std::int64_t end) {
        std::fill(p + begin, p + end, value);
    });
}

Prepared prepare(const NodeView& node) {
    const double value = std::get<Constant>(node.op).value;
    return dispatch_plain(node.out[0].dtype, [value](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[v = from_f64<T>(value)](const KernelCall& call) { fill(call.out[0], v); }};
    });
}

}  // namespace

void register_constant(KernelRegistry& registry) {
    registry.add<Constant>({"constant", takes_all, prepare});
}

}  // namespace octavo::cpu
