#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"
#include "backends/cpu/rope_table.h"

namespace octavo::cpu {
namespace {

template <class T>
void rope(const KernelCall& call, const RopeTable<compute_t<T>>& table, bool inverse) {
    using C = compute_t<T>;
    const Shape& shape = call.in[0].type.shape;  // (B, T, H, D)
    const std::int64_t tokens = shape[1], heads = shape[2], half = shape[3] / 2;
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    const std::int32_t* positions = call.in.size() == 2 ? call.in[1].as<std::int32_t>() : nullptr;
    const C sign = inverse ? C(-1) : C(1);
    parallel_for(
        shape[0] * tokens, row_grain(heads * shape[3]), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t t = begin; t < end; ++t) {
                const std::int64_t position = positions ? std::max(positions[t], 0) : t % tokens;
                const C* cosine = table.cosine.data() + position * half;
                const C* sine = table.sine.data() + position * half;
                for (std::int64_t h = t * heads; h < (t + 1) * heads; ++h) {
                    const T *x0 = x + h * 2 * half, *x1 = x0 + half;
                    T *y0 = y + h * 2 * half, *y1 = y0 + half;
#pragma omp simd
                    for (std::int64_t i = 0; i < half; ++i) {
                        const C a = C(x0[i]), b = C(x1[i]), s = sine[i] * sign;
                        y0[i] = round_to<T>(a * cosine[i] - b * s);
                        y1[i] = round_to<T>(b * cosine[i] + a * s);
                    }
                }
            }
        });
}

Prepared prepare(const NodeView& node) {
    const Rope& op = std::get<Rope>(node.op);
    const std::int64_t positions = node.in.size() == 2 ? op.max_positions : node.in[0].shape[1];
    const std::int64_t half = node.in[0].shape[3] / 2;
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        auto table = rope_table<compute_t<T>>(op, positions, half);
        return Prepared{[table = std::move(table), inverse = op.inverse](const KernelCall& call) {
            rope<T>(call, *table, inverse);
        }};
    });
}

}  // namespace

void register_rope(KernelRegistry& registry) { registry.add<Rope>({"rope", takes_all, prepare}); }

}  // namespace octavo::cpu
