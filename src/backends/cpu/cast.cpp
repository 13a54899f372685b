#include "backends/cpu/kernels.h"
#include "backends/cpu/transpose.h"
#include "backends/quantise_source.h"
#include "base/convert.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

void cast(const TensorRef& x, const TensorRef& y, int exponent) {
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
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<Cast>(node.op);
    if (op.of == QuantiseSource::value) {
        return {[op](const KernelCall& call) {
            cast(call.in[0], call.out[0], op.exponent);
            if (op.transpose) transpose(call.out[0], call.out[1]);
        }};
    }
    const QuantisedSource source(kernel_registry(), op.of, {}, node.in, op.source_exponent);
    const auto run = [op, source](const KernelCall& call) {
        auto out = call.out.begin();
        const std::vector<TensorRef> values = source.values(call.in, call.scratch);
        for (std::size_t k = 0; k < values.size(); ++k) {
            const TensorRef& y = *out++;
            cast(values[k], y, cast_exponent(op, k));
            if (op.transpose) transpose(y, *out++);
        }
    };
    return {run, source.scratch_bytes()};
}

}  // namespace

void register_cast(KernelRegistry& registry) { registry.add<Cast>({"cast", takes_all, prepare}); }

}  // namespace octavo::cpu
