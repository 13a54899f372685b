#include <type_traits>

#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

template <class T, class P>
void write_row(const T* from, std::int64_t n, float inverse, P* to) {
    if constexpr (std::is_same_v<T, P>) {
        std::copy_n(from, n, to);
    } else {
        for (std::int64_t i = 0; i < n; ++i) to[i] = P(static_cast<float>(from[i]) * inverse);
    }
}

// Elements of T into pools of P.
template <class T, class P>
Prepared prepare_into(const NodeView& node) {
    const bool coded = node.in.size() == 7;
    return {[coded](const KernelCall& call) {
        const Shape& added = call.in[2].type.shape;  // (B, T, G, D)
        const std::int64_t rows = added[0] * added[1], n = added[2] * added[3];
        const std::int32_t* slots = call.in[4].as<std::int32_t>();
        for (const int i : {0, 1}) {
            const TensorRef &pool = call.in[i], &result = call.out[i];
            if (result.data != pool.data) {
                std::copy_n(pool.as<std::byte>(), data_bytes(pool.type), result.as<std::byte>());
            }
            const float inverse = coded ? 1.0f / *call.in[5 + i].as<float>() : 1.0f;
            const T* from = call.in[2 + i].as<T>();
            P* to = result.as<P>();
            parallel_for(rows, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t row = begin; row < end; ++row) {
                    if (slots[row] >= 0) write_row(from + row * n, n, inverse, to + slots[row] * n);
                }
            });
        }
    }};
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[2].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return node.in.size() == 7 ? prepare_into<T, e4m3>(node) : prepare_into<T, T>(node);
    });
}

}  // namespace

void register_kv_write(KernelRegistry& registry) {
    registry.add<KvWrite>({"kv_write", takes_all, prepare});
}

}  // namespace octavo::cpu
