#include "backends/cpu/kernels.h"
#include "backends/cpu/transpose.h"
#include "base/convert.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

void cast(const KernelCall& call, int exponent) {
    const TensorRef &x = call.in[0], &y = call.out[0];
    const auto x_size = static_cast<std::int64_t>(size_of(x.type.dtype));
    const auto y_size = static_cast<std::int64_t>(size_of(y.type.dtype));
    parallel_for(x.type.shape.elements(), row_grain(1), [&](std::int64_t begin, std::int64_t end) {
        const std::byte* from = x.as<std::byte>() + begin * x_size;
        std::byte* to = y.as<std::byte>() + begin * y_size;
        if (exponent == 0) {
            convert(from, x.type.dtype, to, y.type.dtype, end - begin);
        } else {
            dequantise(from, x.type.dtype, power_of_two(exponent), to, y.type.dtype, end - begin);
        }
    });
    if (call.out.size() == 2) transpose(y, call.out[1]);
}

Prepared prepare(const NodeView& node) {
    return {[exponent = std::get<Cast>(node.op).exponent](const KernelCall& call) {
        cast(call, exponent);
    }};
}

}  // namespace

void register_cast(KernelRegistry& registry) { registry.add<Cast>({"cast", takes_all, prepare}); }

}  // namespace octavo::cpu
