#include "backends/cuda/block_quantise_rows.h"

#include "backends/cuda/quantise_source.cuh"
#include "base/block_scale.h"

namespace octavo::cuda {
namespace {

constexpr int kLanes = kScaleBlock / kPacket;  // of a run
constexpr int kRuns = kBlock / kLanes;         // of a block
constexpr std::int64_t kFewRows = 512;         // a tile has 128: with more there are tiles enough

// Rows from m up to `pitch` are padding, whose scales are zero.
template <class To, class Source>
__global__ void __launch_bounds__(kBlock)
    runs_kernel(Source source, int m, int columns, std::uint8_t* codes, float* scales, int pitch,
                BlockScale rule) {
    const int runs = columns / static_cast<int>(kScaleBlock);  // of a row
    const int run = static_cast<int>(blockIdx.x) * kRuns + static_cast<int>(threadIdx.x) / kLanes;
    const int row = run / runs, block = run % runs;
    if (row >= pitch) return;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    float* const scale_at = scales + std::int64_t{block} * pitch + row;
    if (row >= m) {
        if (lane == 0) *scale_at = 0;
        return;
    }
    const At at{row, block * kScaleBlock + lane * kPacket, columns};
    float v[1][kPacket];
    source.template get<kPacket>(at, v);
    std::uint32_t top = 0;
#pragma unroll
    for (int i = 0; i < kPacket; ++i) top = max(top, __float_as_uint(v[0][i]) & 0x7FFFFFFF);
    const unsigned together = (threadIdx.x % kWarp < kLanes) ? 0x0000FFFFu : 0xFFFF0000u;
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2) {
        top = max(top, __shfl_xor_sync(together, top, step));
    }
    const auto [scale, inv_scale] = rule(__uint_as_float(top));
    if (lane == 0) *scale_at = scale;
#pragma unroll
    for (int i = 0; i < kPacket; ++i) v[0][i] *= inv_scale;
    *reinterpret_cast<uint2*>(codes + at.index()) = encode_packet<To>(v[0]);
}

}  // namespace

Refusal reject_block_quantise_rows(const NodeView& node) {
    const auto& op = std::get<BlockQuantise>(node.op);
    const Shape& y = node.out[0].shape;
    if (op.scaling.granularity != Granularity::block_1x128) return "no runs of 128";
    if (op.copies != Copies::rows) return "it does not turn around";
    if (node.in[0].dtype != Dtype::bf16) return fmt::format("{}", name(node.in[0].dtype));
    if (quantised_results(op.of) != 1) return "two results";
    if (y.rows() > kFewRows) return fmt::format("{} rows; tiles are quicker", y.rows());
    if (y.last() % kScaleBlock != 0 || y.elements() == 0) return "no whole runs";
    return std::nullopt;
}

Prepared prepare_block_quantise_rows(const NodeView& node) {
    const auto op = std::get<BlockQuantise>(node.op);
    return {[op](const KernelCall& call) {
        const TensorRef& y = call.out[0];
        const int m = static_cast<int>(y.type.shape.rows());
        const int columns = static_cast<int>(y.type.shape.last());
        const int pitch = static_cast<int>(scale_layout(y.type).pitch);
        const BlockScale rule{max_value(op.to), op.floor, op.rounding, op.rule};
        const std::int64_t runs = std::int64_t{pitch} * (columns / kScaleBlock);
        const auto blocks = static_cast<unsigned>(ceil_div(runs, kRuns));
        with_source<bf16>(op.of, call.in, [&]<class Source>(const Source& source) {
            if constexpr (Source::kResults == 1) {
                const auto launch = [&]<class To>() {
                    runs_kernel<To><<<blocks, kBlock, 0, stream()>>>(
                        source, m, columns, y.as<std::uint8_t>(), y.scales(), pitch, rule);
                };
                op.to == Dtype::e4m3 ? launch.template operator()<e4m3>()
                                     : launch.template operator()<e5m2>();
            }
        });
        launched("block_quantise");
    }};
}

}  // namespace octavo::cuda
