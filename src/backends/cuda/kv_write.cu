#include "backends/cuda/row_copies.cuh"

namespace octavo::cuda {
namespace {

template <class Unit>
struct CacheRows {
    const Unit* added;
    const std::int32_t* positions;
    Unit* cache;
    std::int64_t slots, tokens, units;

    // Of equal positions in a sequence the last counts, so the others write nothing.
    __device__ RowCopy<Unit> operator()(std::int64_t t, int) const {
        const std::int64_t s = positions[t], sequence = t / tokens;
        bool later = false;
        for (std::int64_t i = t + 1 + threadIdx.x; i < (sequence + 1) * tokens; i += blockDim.x) {
            later |= positions[i] == s;
        }
        if (__syncthreads_or(later) || s < 0 || s >= slots) return {nullptr, nullptr, 0};
        return {added + t * units, cache + (sequence * slots + s) * units, units};
    }
};

void kv_write(const KernelCall& call) {
    const TensorRef &cache = call.in[0], &added = call.in[1], &result = call.out[0];
    const Shape& shape = cache.type.shape;  // (B, S, H, D)
    const std::int64_t tokens = added.type.shape[1];
    const std::int64_t token_bytes = shape[2] * row_bytes(cache.type);
    copy(cache.data, result.data, data_bytes(cache.type));
    CopyUnit unit;
    unit.add(token_bytes);
    unit.dispatch([&](auto tag) {
        using Unit = typename decltype(tag)::type;
        const std::int64_t units = token_bytes / static_cast<std::int64_t>(sizeof(Unit));
        copy_rows("kv_write", shape[0] * tokens, 1, units,
                  CacheRows<Unit>{added.as<Unit>(), call.in[2].as<std::int32_t>(),
                                  result.as<Unit>(), shape[1], tokens, units});
    });
}

Prepared prepare(const NodeView&) { return {kv_write}; }

}  // namespace

void register_kv_write(KernelRegistry& registry) {
    registry.add<KvWrite>({"kv_write", takes_all, prepare});
}

}  // namespace octavo::cuda
