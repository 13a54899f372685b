// Attention by its definition, a query at a time: for f64, and for the few queries of decoding,
// where reading the cache once is all that counts.
#include <cmath>
#include <limits>

#include "backends/cpu/attention.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T, class C = compute_t<T>>
struct DirectAttention {
    AttentionExtents e;
    Attention op;
    std::int64_t slots;

    std::int64_t scratch_elements() const { return e.s + 2 * e.d; }

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
        const KeyRange seen = seen_keys(e, op, call).of(batch, row);
        const std::int64_t visible = seen.end - seen.begin;
        const std::int64_t first_key = e.key_row(batch, seen.begin, head / (e.h / e.g));
        const T* q = call.in[0].as<T>() + e.query_row(batch, row, head);
        const T* k = call.in[1].as<T>() + first_key;
        const T* v = call.in[2].as<T>() + first_key;
        T* o = call.out[0].as<T>() + e.query_row(batch, row, head);
        C* lse = call.out[1].as<C>() + (batch * e.h + head) * e.t + row;
        C *p = scratch, *query = p + e.s, *sums = query + e.d;

        for (std::int64_t i = 0; i < e.d; ++i) query[i] = C(q[i]) * C(op.scale);
        C top = std::numeric_limits<C>::lowest();
        for (std::int64_t s = 0; s < visible; ++s) {
            const T* key = k + s * e.g * e.d;
            C score = 0;
#pragma omp simd reduction(+ : score)
            for (std::int64_t i = 0; i < e.d; ++i) score += query[i] * C(key[i]);
            p[s] = score;
            top = std::max(top, score);
        }
        C sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t s = 0; s < visible; ++s) {
            p[s] = exp(p[s] - top);
            sum += p[s];
        }
        std::fill_n(sums, e.d, C(0));
        for (std::int64_t s = 0; s < visible; ++s) {
            const T* value = v + s * e.g * e.d;
            const C weight = p[s];
#pragma omp simd
            for (std::int64_t i = 0; i < e.d; ++i) sums[i] += weight * C(value[i]);
        }
        const C factor = visible > 0 ? C(1) / sum : C(0);
        for (std::int64_t i = 0; i < e.d; ++i) o[i] = round_to<T>(sums[i] * factor);
        *lse = visible > 0 ? top + std::log(sum) : -std::numeric_limits<C>::infinity();
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
