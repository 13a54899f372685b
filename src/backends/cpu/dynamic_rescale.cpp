#include "backends/cpu/kernels.h"
#include "backends/propagation.h"

namespace octavo::cpu {
namespace {

constexpr std::int64_t kChunk = 512 * kStatisticPacket;

std::int64_t chunks_of(std::int64_t n) { return (n + kChunk - 1) / kChunk; }

// Of one chunk.
template <class T>
double total_of(Statistic statistic, const T* x, std::int64_t n) {
    double total = 0;
    for (std::int64_t at = 0; at < n; at += kStatisticPacket) {
        float packet = 0;
        for (std::int64_t i = at; i < std::min(n, at + kStatisticPacket); ++i) {
            packet = with_element(statistic, packet, static_cast<float>(x[i]));
        }
        total = joined(statistic, total, double{packet});
    }
    return total;
}

template <class T>
void dynamic_rescale(const KernelCall& call, DynamicRescale op) {
    const T* x = call.in[0].as<T>();
    const std::int64_t n = call.in[0].type.shape.elements(), chunks = chunks_of(n);
    double* parts = reinterpret_cast<double*>(call.scratch);
    parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c) {
            const std::int64_t at = c * kChunk;
            parts[c] = total_of(op.statistic, x + at, std::min(kChunk, n - at));
        }
    });
    double total = 0;
    for (std::int64_t c = 0; c < chunks; ++c) total = joined(op.statistic, total, parts[c]);
    *call.out[0].as<float>() = measured_size(op, total, n, *call.in[1].as<float>());
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<DynamicRescale>(node.op);
    const std::int64_t chunks = chunks_of(node.in[0].shape.elements());
    return dispatch_float(node.in[0].dtype, [&](auto tag) {
        return Prepared{[op](const KernelCall& call) {
                            dynamic_rescale<typename decltype(tag)::type>(call, op);
                        },
                        chunks * static_cast<std::int64_t>(sizeof(double))};
    });
}

}  // namespace

void register_dynamic_rescale(KernelRegistry& registry) {
    registry.add<DynamicRescale>({"dynamic_rescale", takes_all, prepare});
}

}  // namespace octavo::cpu
