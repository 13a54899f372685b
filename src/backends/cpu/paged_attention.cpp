// A query of one head at a time, keys in ascending order: what a query gives does not depend on
// those beside it.
#include <array>

#include "backends/cpu/attention.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

// What the codes of E4M3 stand for.
template <class C>
const std::array<C, 256>& code_values() {
    static const std::array<C, 256> values = [] {
        std::array<C, 256> all;
        for (std::size_t code = 0; code < all.size(); ++code) {
            all[code] = C(float(e4m3::from_bits(static_cast<std::uint8_t>(code))));
        }
        return all;
    }();
    return values;
}

// T: of queries; P: of the pools.
template <class T, class P, class C = compute_t<T>>
struct PagedAttentionKernel {
    PagedAttention op;
    std::int64_t rows, heads, groups, d, table, slots;

    std::int64_t keys() const { return table * op.block; }
    std::int64_t scratch_elements() const { return keys() + 3 * d; }

    void operator()(const KernelCall& call) const {
        for_each_task(rows * heads, slots, [&](std::int64_t task, std::int64_t slot) {
            attend(call, task / heads, task % heads,
                   reinterpret_cast<C*>(call.scratch) + slot * scratch_elements());
        });
    }

    // A row of a pool as numbers of the arithmetic.
    const C* widen(const P* x, C* to) const {
        if constexpr (std::is_same_v<P, C>) {
            return x;
        } else if constexpr (std::is_same_v<P, e4m3>) {
            for (std::int64_t i = 0; i < d; ++i) to[i] = code_values<C>()[x[i].bits];
            return to;
        } else {
#pragma omp simd
            for (std::int64_t i = 0; i < d; ++i) to[i] = C(x[i]);
            return to;
        }
    }

    void attend(const KernelCall& call, std::int64_t row, std::int64_t head, C* scratch) const {
        const std::int64_t visible = std::clamp<std::int64_t>(
            call.in[3].as<std::int32_t>()[row] + std::int64_t{1}, 0, keys());
        const std::int32_t* blocks =
            call.in[5].as<std::int32_t>() + call.in[4].as<std::int32_t>()[row] * table;
        const auto at = [&](std::int64_t s) {
            const std::int64_t slot = blocks[s / op.block] * op.block + s % op.block;
            return (slot * groups + head / (heads / groups)) * d;
        };
        const T* q = call.in[0].as<T>() + (row * heads + head) * d;
        T* o = call.out[0].as<T>() + (row * heads + head) * d;
        if (visible == 0) {
            std::fill_n(o, d, T(0.0f));
            return;
        }
        C *p = scratch, *query = p + keys(), *sums = query + d, *wide = sums + d;

        const bool coded = std::is_same_v<P, e4m3>;
        const C k_scale = C(op.scale) * (coded ? C(*call.in[6].as<float>()) : C(1));
        const C v_scale = coded ? C(*call.in[7].as<float>()) : C(1);
        for (std::int64_t i = 0; i < d; ++i) query[i] = C(q[i]) * k_scale;
        const Softmax<C> softmax = attend_row(
            query, d, visible,
            [&](std::int64_t s) { return widen(call.in[1].as<P>() + at(s), wide); },
            [&](std::int64_t s) { return widen(call.in[2].as<P>() + at(s), wide); }, p, sums);
        const C factor = v_scale / softmax.sum;
        for (std::int64_t i = 0; i < d; ++i) o[i] = round_to<T>(sums[i] * factor);
    }
};

template <class T, class P>
Prepared prepare_over(const NodeView& node) {
    const Shape& q = node.in[0].shape;
    PagedAttentionKernel<T, P> kernel{.op = std::get<PagedAttention>(node.op),
                                      .rows = q[0] * q[1],
                                      .heads = q[2],
                                      .groups = node.in[1].shape[1],
                                      .d = q[3],
                                      .table = node.in[5].shape[1],
                                      .slots = slot_count(q[0] * q[1] * q[2])};
    return {kernel, kernel.slots * kernel.scratch_elements() *
                        static_cast<std::int64_t>(sizeof(compute_t<T>))};
}

Prepared prepare(const NodeView& node) {
    if (node.in.size() == 9) return prepare_paged_attention_fp8(node);
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return node.in.size() == 8 ? prepare_over<T, e4m3>(node) : prepare_over<T, T>(node);
    });
}

}  // namespace

void register_paged_attention(KernelRegistry& registry) {
    registry.add<PagedAttention>({"rows", takes_all, prepare});
}

}  // namespace octavo::cpu
