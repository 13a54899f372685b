#include <array>

#include "backends/cpu/kernels.h"
#include "backends/propagation.h"

namespace octavo::cpu {
namespace {

template <class C>
using Lanes = std::array<C, kStatisticLanes>;

template <class C>
C join(Statistic statistic, Lanes<C>& lanes) {
    for (std::size_t half = kStatisticLanes / 2; half > 0; half /= 2) {
        for (std::size_t l = 0; l < half; ++l) {
            lanes[l] = joined(statistic, lanes[l], lanes[l + half]);
        }
    }
    return lanes[0];
}

// One chunk: its sum in the order of backends/propagation.h, or its maximum.
template <class T>
float measure(Statistic statistic, const T* x, std::int64_t n) {
    Lanes<float> lanes{};
    for (std::int64_t i = 0; i < n; ++i) {
        float& lane = lanes[i / kStatisticPacket % kStatisticLanes];
        lane = with_element(statistic, lane, static_cast<float>(x[i]));
    }
    return join(statistic, lanes);
}

template <class T>
void dynamic_rescale(const KernelCall& call, DynamicRescale op) {
    const T* x = call.in[0].as<T>();
    const std::int64_t n = call.in[0].type.shape.elements();
    const std::int64_t chunks = statistic_chunks(n);
    float* parts = reinterpret_cast<float*>(call.scratch);
    parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c) {
            const std::int64_t at = c * kStatisticChunk;
            parts[c] =
                measure(op.statistic, x + at, std::min<std::int64_t>(kStatisticChunk, n - at));
        }
    });
    Lanes<double> lanes{};
    for (std::int64_t c = 0; c < chunks; ++c) {
        double& lane = lanes[static_cast<std::size_t>(c % kStatisticLanes)];
        lane = joined(op.statistic, lane, double{parts[c]});
    }
    const double total = join(op.statistic, lanes);
    const float factor = rescale_factor(op.statistic, total, n);
    *call.out[0].as<float>() =
        scaled_power(*call.in[1].as<float>(), op.exponent + exponent_of(factor));
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<DynamicRescale>(node.op);
    const std::int64_t chunks = statistic_chunks(node.in[0].shape.elements());
    return dispatch_float(node.in[0].dtype, [&](auto tag) {
        return Prepared{[op](const KernelCall& call) {
                            dynamic_rescale<typename decltype(tag)::type>(call, op);
                        },
                        chunks * static_cast<std::int64_t>(sizeof(float))};
    });
}

}  // namespace

void register_dynamic_rescale(KernelRegistry& registry) {
    registry.add<DynamicRescale>({"dynamic_rescale", takes_all, prepare});
}

}  // namespace octavo::cpu
