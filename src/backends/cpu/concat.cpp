#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

std::int64_t row_bytes(const Type& t) {
    return t.shape.last() * static_cast<std::int64_t>(size_of(t.dtype));
}

void concat(const KernelCall& call) {
    const Type& y = call.out[0].type;
    parallel_for(y.shape.rows(), row_grain(y.shape.last()),
                 [&](std::int64_t begin, std::int64_t end) {
                     std::byte* to = call.out[0].as<std::byte>() + begin * row_bytes(y);
                     for (std::int64_t row = begin; row < end; ++row) {
                         for (const TensorRef& x : call.in) {
                             const std::int64_t n = row_bytes(x.type);
                             std::copy_n(x.as<std::byte>() + row * n, n, to);
                             to += n;
                         }
                     }
                 });
}

Prepared prepare(const NodeView&) { return {concat}; }

}  // namespace

void register_concat(KernelRegistry& registry) {
    registry.add<Concat>({"concat", takes_all, prepare});
}

}  // namespace octavo::cpu
