#include "backends/cuda/block_quantise_rows.h"

#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/runs.cuh"

namespace octavo::cuda {
namespace {

constexpr int kRuns = kBlock / kRunLanes;  // of a block
constexpr std::int64_t kFewRows = 512;     // a tile has 128: with more there are tiles enough

template <class To, class Source>
__global__ void __launch_bounds__(kBlock) runs_kernel(Source source, int m, RunCodes<To> out) {
    const int columns = static_cast<int>(out.columns);
    const int runs = columns / static_cast<int>(kScaleBlock);  // of a row
    const int run =
        static_cast<int>(blockIdx.x) * kRuns + static_cast<int>(threadIdx.x) / kRunLanes;
    const int row = run / runs, block = run % runs;
    if (row >= out.pitch) return;
    const int lane = static_cast<int>(threadIdx.x) % kRunLanes;
    if (row >= m) {
        if (lane == 0) out.clear(row, block);
        return;
    }
    const At at{row, block * kScaleBlock + lane * kPacket, columns};
    float v[1][kPacket];
    source.template get<kPacket>(at, v);
    out.write(row, at.column, v[0]);
}

}  // namespace

Refusal reject_block_quantise_rows(const NodeView& node) {
    const auto& op = std::get<BlockQuantise>(node.op);
    const Shape& y = node.out[0].shape;
    if (op.scaling.granularity != Granularity::block_1x128) return "no runs of 128";
    if (op.copies != Copies::rows) return "it does not turn around";
    const Dtype from = node.in[0].dtype;
    if (from != Dtype::bf16) return fmt::format("{}", name(from));
    if (!has_source(op.of, from, op.to)) return "its source goes through memory";
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
        const auto launch = [&]<class To>() {
            const RunCodes<To> out(y, op);
            const std::int64_t runs = out.pitch * (out.columns / kScaleBlock);
            const auto blocks = static_cast<unsigned>(ceil_div(runs, kRuns));
            with_source<bf16, To>(op.of, call.in, [&]<class Source>(const Source& source) {
                if constexpr (Source::kResults == 1) {
                    runs_kernel<To><<<blocks, kBlock, 0, stream()>>>(source, m, out);
                }
            });
        };
        op.to == Dtype::e4m3 ? launch.template operator()<e4m3>()
                             : launch.template operator()<e5m2>();
        launched("block_quantise");
    }};
}

}  // namespace octavo::cuda
