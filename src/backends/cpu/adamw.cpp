#include <cmath>

#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

void keep(const TensorRef& from, const TensorRef& to) {
    if (from.data == to.data) return;
    std::copy_n(from.as<float>(), from.type.shape.elements(), to.as<float>());
}

void adamw(const KernelCall& call, const AdamW& op) {
    const float factor = *call.in[4].as<float>();
    if (!std::isfinite(factor)) {
        keep(call.in[0], call.out[0]);
        keep(call.in[2], call.out[1]);
        keep(call.in[3], call.out[2]);
        return;
    }
    const float* schedule = call.in[5].as<float>();
    const float decay = 1.0f - schedule[0] * op.weight_decay;
    const float step = schedule[0] / schedule[1];
    const float unbias = 1.0f / std::sqrt(schedule[2]);
    const float b1 = op.beta1, b2 = op.beta2, eps = op.eps;

    const float *w = call.in[0].as<float>(), *g = call.in[1].as<float>();
    const float *m = call.in[2].as<float>(), *v = call.in[3].as<float>();
    float *w2 = call.out[0].as<float>(), *m2 = call.out[1].as<float>();
    float* v2 = call.out[2].as<float>();
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
                     for (std::int64_t i = begin; i < end; ++i) {
                         const float d = g[i] * factor;
                         const float mean = b1 * m[i] + (1.0f - b1) * d;
                         const float square = b2 * v[i] + (1.0f - b2) * d * d;
                         w2[i] = w[i] * decay - step * mean / (std::sqrt(square) * unbias + eps);
                         m2[i] = mean;
                         v2[i] = square;
                     }
                 });
}

Prepared prepare(const NodeView& node) {
    return {[op = std::get<AdamW>(node.op)](const KernelCall& call) { adamw(call, op); }};
}

}  // namespace

void register_adamw(KernelRegistry& registry) {
    registry.add<AdamW>({"adamw", takes_all, prepare});
}

}  // namespace octavo::cpu
