#include "backends/cpu/kernels.h"
#include "base/convert.h"

namespace octavo::cpu {
namespace {

void cast(const KernelCall& call) {
    const TensorRef &x = call.in[0], &y = call.out[0];
    const auto x_size = static_cast<std::int64_t>(size_of(x.type.dtype));
    const auto y_size = static_cast<std::int64_t>(size_of(y.type.dtype));
    parallel_for(x.type.shape.elements(), row_grain(1), [&](std::int64_t begin, std::int64_t end) {
        convert(x.as<std::byte>() + begin * x_size, x.type.dtype,
                y.as<std::byte>() + begin * y_size, y.type.dtype, end - begin);
    });
}

Prepared prepare(const NodeView&) { return {cast}; }

}  // namespace

void register_cast(KernelRegistry& registry) { registry.add<Cast>({"cast", takes_all, prepare}); }

}  // namespace octavo::cpu
