#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

void embedding(const KernelCall& call) {
    const Type& y = call.out[0].type;
    const std::byte* from = call.in[0].as<std::byte>();
    const std::int32_t* rows = call.in[1].as<std::int32_t>();
    std::byte* to = call.out[0].as<std::byte>();
    const std::int64_t row_bytes = y.shape.last() * static_cast<std::int64_t>(size_of(y.dtype));
    parallel_for(y.shape.rows(), row_grain(y.shape.last()),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                         std::byte* row = to + i * row_bytes;
                         if (rows[i] < 0) {
                             std::fill_n(row, row_bytes, std::byte{0});
                         } else {
                             std::copy_n(from + rows[i] * row_bytes, row_bytes, row);
                         }
                     }
                 });
}

Prepared prepare(const NodeView&) { return {embedding}; }

}  // namespace

void register_embedding(KernelRegistry& registry) {
    registry.add<Embedding>({"embedding", takes_all, prepare});
}

}  // namespace octavo::cpu
