// Attention by its definition, a query at a time.
#include <cmath>

#include "backends/cpu/attention.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T, class C = compute_t<T>>
struct DirectAttention {
    AttentionExtents e;
    Attention op;
    std::int64_t slots;

    std::int64_t scratch_elements() const { return e.t + 2 * e.d; }

    void operator()(const KernelCall& call) const {
        for_each_task(e.b * e.h, slots, [&](std::int64_t task, std::int64_t slot) {
            C* scratch = reinterpret_cast<C*>(call.scratch) + slot * scratch_elements();
            for (std::int64_t row = 0; row < e.t; ++row) {
                attend(call, task / e.h, task % e.h, row, scratch);
            }
        });
    }

    void attend(const KernelCall& call, std::int64_t batch, std::int64_t head, std::int64_t row,
                C* scratch) const {
        const KeyRange seen = seen_keys(e, call, 3).of(batch, row);
        const std::int64_t first_key = e.key_row(batch, seen.begin, head / (e.h / e.g));
        const std::int64_t step = e.g * e.d;
        const T* q = call.in[0].as<T>() + e.query_row(batch, row, head);
        const T* k = call.in[1].as<T>() + first_key;
        const T* v = call.in[2].as<T>() + first_key;
        T* o = call.out[0].as<T>() + e.query_row(batch, row, head);
        C* lse = call.out[1].as<C>() + (batch * e.h + head) * e.t + row;
        C *p = scratch, *query = p + e.t, *sums = query + e.d;

        for (std::int64_t i = 0; i < e.d; ++i) query[i] = C(q[i]) * C(op.scale);
        const auto [top, sum] = attend_row(
            query, e.d, seen.end - seen.begin, [&](std::int64_t s) { return k + s * step; },
            [&](std::int64_t s) { return v + s * step; }, p, sums);
        const C factor = C(1) / sum;
        for (std::int64_t i = 0; i < e.d; ++i) o[i] = round_to<T>(sums[i] * factor);
        *lse = top + std::log(sum);
    }
};

}  // namespace

Prepared prepare_attention_reference(const NodeView& node) {
    const AttentionExtents e = attention_extents(node);
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        const DirectAttention<T> kernel{e, std::get<Attention>(node.op), slot_count(e.b * e.h)};
        return Prepared{kernel, kernel.slots * kernel.scratch_elements() *
                                    static_cast<std::int64_t>(sizeof(C))};
    });
}

}  // namespace octavo::cpu
