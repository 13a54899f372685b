#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

void dispatch(const KernelCall& call) {
    const Type& y = call.out[0].type;
    const std::int64_t k = call.in[1].type.shape[1];
    const std::byte* from = call.in[0].as<std::byte>();
    const std::int32_t* choices = call.in[2].as<std::int32_t>();
    std::byte* to = call.out[0].as<std::byte>();
    const std::int64_t row_bytes = y.shape.last() * static_cast<std::int64_t>(size_of(y.dtype));
    parallel_for(y.shape[0], row_grain(y.shape.last()), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            std::byte* row = to + r * row_bytes;
            if (choices[r] < 0) {
                std::fill_n(row, row_bytes, std::byte{0});
            } else {
                std::copy_n(from + choices[r] / k * row_bytes, row_bytes, row);
            }
        }
    });
}

Prepared prepare(const NodeView&) { return {dispatch}; }

}  // namespace

void register_dispatch(KernelRegistry& registry) {
    registry.add<Dispatch>({"dispatch", takes_all, prepare});
}

}  // namespace octavo::cpu
