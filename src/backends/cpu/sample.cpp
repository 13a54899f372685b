#include "base/sample.h"

#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

void sample(const KernelCall& call) {
    const Shape& shape = call.in[0].type.shape;
    const std::int64_t v = shape[1];
    const float* logits = call.in[0].as<float>();
    const float* reals = call.in[1].as<float>();
    const std::int32_t* integers = call.in[2].as<std::int32_t>();
    std::int32_t* tokens = call.out[0].as<std::int32_t>();
    float* log_probabilities = call.out[1].as<float>();
    parallel_for(shape[0], row_grain(v), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const std::int32_t* how = integers + 4 * r;
            const auto ids = static_cast<std::size_t>(std::clamp<std::int64_t>(how[1], 0, v));
            const Drawn drawn =
                draw({logits + r * v, ids}, {.temperature = reals[2 * r],
                                             .top_p = reals[2 * r + 1],
                                             .top_k = how[0],
                                             .random = static_cast<std::uint32_t>(how[2]),
                                             .given = how[3]});
            tokens[r] = drawn.token;
            log_probabilities[r] = drawn.log_probability;
        }
    });
}

Prepared prepare(const NodeView&) { return {sample}; }

}  // namespace

void register_sample(KernelRegistry& registry) {
    registry.add<Sample>({"sample", takes_all, prepare});
}

}  // namespace octavo::cpu
