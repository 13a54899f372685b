#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

void split(const KernelCall& call) {
    const Type& x = call.in[0].type;
    const auto size = static_cast<std::int64_t>(size_of(x.dtype));
    const std::int64_t x_row = x.shape.last() * size;
    parallel_for(x.shape.rows(), row_grain(x.shape.last()),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         const std::byte* from = call.in[0].as<std::byte>() + row * x_row;
                         for (const TensorRef& y : call.out) {
                             const std::int64_t y_row = y.type.shape.last() * size;
                             std::copy_n(from, y_row, y.as<std::byte>() + row * y_row);
                             from += y_row;
                         }
                     }
                 });
}

Prepared prepare(const NodeView&) { return {split}; }

}  // namespace

void register_split(KernelRegistry& registry) {
    registry.add<Split>({"split", takes_all, prepare});
}

}  // namespace octavo::cpu
