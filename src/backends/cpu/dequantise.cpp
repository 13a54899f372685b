#include "backends/cpu/kernels.h"
#include "base/convert.h"

namespace octavo::cpu {
namespace {

void dequantise_tensor(const KernelCall& call) {
    const TensorRef &x = call.in[0], &y = call.out[0];
    const auto from_size = static_cast<std::int64_t>(size_of(x.type.dtype));
    const auto to_size = static_cast<std::int64_t>(size_of(y.type.dtype));
    parallel_for(x.type.shape.elements(), row_grain(1), [&](std::int64_t begin, std::int64_t end) {
        dequantise(x.as<std::byte>() + begin * from_size, x.type.dtype, *x.scales(),
                   y.as<std::byte>() + begin * to_size, y.type.dtype, end - begin);
    });
}

Prepared prepare(const NodeView&) { return {dequantise_tensor}; }

}  // namespace

void register_dequantise(KernelRegistry& registry) {
    registry.add<Dequantise>({"dequantise", takes_all, prepare});
}

}  // namespace octavo::cpu
