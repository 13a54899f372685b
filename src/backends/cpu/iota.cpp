#include <numeric>

#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

void iota(const KernelCall& call) {
    auto* y = call.out[0].as<std::int32_t>();
    const Shape& shape = call.out[0].type.shape;
    const std::int64_t t = shape.last();
    for (std::int64_t row = 0; row < shape.rows(); ++row)
        std::iota(y + row * t, y + (row + 1) * t, 0);
}

Prepared prepare(const NodeView&) { return {iota}; }

}  // namespace

void register_iota(KernelRegistry& registry) { registry.add<Iota>({"iota", takes_all, prepare}); }

}  // namespace octavo::cpu
