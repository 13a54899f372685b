// A row at a time, as norms are: read once from memory, the second time from the L1 cache.
#include "backends/cuda/norms.cuh"
#include "backends/cuda/rows.cuh"
#include "backends/cuda/runs.cuh"
#include "backends/decomposed.h"

namespace octavo::cuda {
namespace {

template <class To>
struct RmsNormRuns {
    const bf16* x;
    const float* w;
    RunCodes<To> out;
    std::int64_t m;  // rows; those up to out.pitch are padding
    float eps;

    template <class Team, int N>
    __device__ void run(std::int64_t row) const {
        if constexpr (N == kPacket) {
            if (row >= m) {
                const std::int64_t runs = out.columns / kScaleBlock;
                for (std::int64_t i = Team::thread(); i < runs; i += Team::threads()) {
                    out.clear(row, i);
                }
                return;
            }
            const bf16* xr = x + row * out.columns;
            float squares = 0;
            over_row<Team, N>(out.columns, [&](std::int64_t i) {
                float v[N];
                load<N>(xr + i, v);
#pragma unroll
                for (int k = 0; k < N; ++k) squares += v[k] * v[k];
            });
            const float rstd = 1.0f / sqrt(Team::sum(squares) / float(out.columns) + eps);
            over_row<Team, N>(out.columns, [&](std::int64_t i) {
                float v[N];
                load<N>(xr + i, v);
                rms_normalise(v, rstd, w, i);
                round_values<bf16>(v);
                out.write(row, i, v);
            });
        }
    }
};

Refusal reject(const NodeView& node) {
    const BlockQuantise& q = std::get<RmsNormQuantise>(node.op).quantise;
    if (q.scaling.granularity != Granularity::block_1x128) return "no runs of 128";
    if (node.in[0].dtype != Dtype::bf16) return fmt::format("{}", name(node.in[0].dtype));
    const Shape& x = node.in[0].shape;
    if (x.last() % kScaleBlock != 0 || x.elements() == 0) return "no whole runs";
    return std::nullopt;
}

Prepared prepare_rows(const NodeView& node) {
    const auto op = std::get<RmsNormQuantise>(node.op);
    return {[op](const KernelCall& call) {
        const auto run = [&]<class To>() {
            const RunCodes<To> out(call.out[0], op.quantise);
            for_rows("rms_norm_quantise", out.pitch, out.columns,
                     RmsNormRuns<To>{call.in[0].as<bf16>(), call.in[1].as<float>(), out,
                                     call.in[0].type.shape.rows(), op.eps});
        };
        op.quantise.to == Dtype::e4m3 ? run.template operator()<e4m3>()
                                      : run.template operator()<e5m2>();
    }};
}

Prepared prepare_parts(const NodeView& node) { return prepare_decomposed(kernel_registry(), node); }

}  // namespace

void register_rms_norm_quantise(KernelRegistry& registry) {
    registry.add<RmsNormQuantise>({"rows", reject, prepare_rows});
    registry.add<RmsNormQuantise>({"decomposed", takes_all, prepare_parts});
}

}  // namespace octavo::cuda
