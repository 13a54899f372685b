#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

void kv_write(const KernelCall& call) {
    const TensorRef &cache = call.in[0], &added = call.in[1], &result = call.out[0];
    const std::int32_t* positions = call.in[2].as<std::int32_t>();
    const Shape& shape = cache.type.shape;  // (B, S, H, D)
    const std::int64_t slots = shape[1], tokens = added.type.shape[1];
    const std::int64_t token_bytes =
        shape[2] * shape[3] * static_cast<std::int64_t>(size_of(cache.type.dtype));
    const std::int64_t sequence_bytes = slots * token_bytes;
    const bool in_place = result.data == cache.data;
    const std::int64_t written = (in_place ? tokens : slots + tokens) * shape[2] * shape[3];
    parallel_for(shape[0], row_grain(written), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            std::byte* to = result.as<std::byte>() + b * sequence_bytes;
            if (!in_place) {
                std::copy_n(cache.as<std::byte>() + b * sequence_bytes, sequence_bytes, to);
            }
            for (std::int64_t t = b * tokens; t < (b + 1) * tokens; ++t) {
                const std::int64_t s = positions[t];
                if (s < 0 || s >= slots) continue;
                std::copy_n(added.as<std::byte>() + t * token_bytes, token_bytes,
                            to + s * token_bytes);
            }
        }
    });
}

Prepared prepare(const NodeView&) { return {kv_write}; }

}  // namespace

void register_kv_write(KernelRegistry& registry) {
    registry.add<KvWrite>({"kv_write", takes_all, prepare});
}

}  // namespace octavo::cpu
