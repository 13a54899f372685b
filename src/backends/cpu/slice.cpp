#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

void slice(const KernelCall& call, std::int64_t first) {
    const Type &x = call.in[0].type, &y = call.out[0].type;
    const auto size = static_cast<std::int64_t>(size_of(x.dtype));
    const std::byte* from = call.in[0].as<std::byte>() + first * size;
    std::byte* to = call.out[0].as<std::byte>();
    const std::int64_t x_row = x.shape.last() * size, y_row = y.shape.last() * size;
    parallel_for(y.shape.rows(), row_grain(y.shape.last()),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         std::copy_n(from + row * x_row, y_row, to + row * y_row);
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    const std::int64_t begin = std::get<Slice>(node.op).begin;
    return {[begin](const KernelCall& call) { slice(call, begin); }};
}

}  // namespace

void register_slice(KernelRegistry& registry) {
    registry.add<Slice>({"slice", takes_all, prepare});
}

}  // namespace octavo::cpu
