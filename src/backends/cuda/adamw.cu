#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {
namespace {

struct AdamWBody {
    const float *w, *g, *m, *v, *factor, *schedule;
    float *next_w, *next_m, *next_v;
    AdamW op;

    template <int N>
    __device__ void run(std::int64_t i) const {
        float x[N], d[N], mean[N], square[N];
        load<N>(w + i, x);
        load<N>(m + i, mean);
        load<N>(v + i, square);
        const float clip = *factor;
        if (isfinite(clip)) {
            load<N>(g + i, d);
            const float decay = 1.0f - schedule[0] * op.weight_decay;
            const float step = schedule[0] / schedule[1];
            const float unbias = 1.0f / sqrtf(schedule[2]);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const float scaled = d[k] * clip;
                mean[k] = op.beta1 * mean[k] + (1.0f - op.beta1) * scaled;
                square[k] = op.beta2 * square[k] + (1.0f - op.beta2) * scaled * scaled;
                x[k] = x[k] * decay - step * mean[k] / (sqrtf(square[k]) * unbias + op.eps);
            }
        } else if (w == next_w && m == next_m && v == next_v) {
            return;
        }
        store<N>(next_w + i, x);
        store<N>(next_m + i, mean);
        store<N>(next_v + i, square);
    }
};

Prepared prepare(const NodeView& node) {
    return {[op = std::get<AdamW>(node.op)](const KernelCall& call) {
        for_elements(
            "adamw", call.out[0].type.shape.elements(),
            AdamWBody{call.in[0].as<float>(), call.in[1].as<float>(), call.in[2].as<float>(),
                      call.in[3].as<float>(), call.in[4].as<float>(), call.in[5].as<float>(),
                      call.out[0].as<float>(), call.out[1].as<float>(), call.out[2].as<float>(),
                      op});
    }};
}

}  // namespace

void register_adamw(KernelRegistry& registry) {
    registry.add<AdamW>({"adamw", takes_all, prepare});
}

}  // namespace octavo::cuda
