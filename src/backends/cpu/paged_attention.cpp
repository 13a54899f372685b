// A query of one head at a time, keys in ascending order: what a query gives does not depend on
// those beside it.
#include "backends/cpu/paged_attention.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

// T: of queries; P: of the pools.
template <class T, class P, class C = compute_t<T>>
struct PagedAttentionKernel {
    PagedRows r;

    std::int64_t scratch_elements() const { return r.keys() + 3 * r.d; }

    // A row of a pool as numbers of the arithmetic.
    const C* widen(const P* x, C* to) const {
        if constexpr (std::is_same_v<P, C>) {
            return x;
        } else if constexpr (std::is_same_v<P, e4m3>) {
            for (std::int64_t i = 0; i < r.d; ++i) to[i] = code_values<C>()[x[i].bits];
            return to;
        } else {
#pragma omp simd
            for (std::int64_t i = 0; i < r.d; ++i) to[i] = C(x[i]);
            return to;
        }
    }

    void operator()(const KernelCall& call) const {
        const bool coded = std::is_same_v<P, e4m3>;
        const C k_scale = C(r.op.scale) * (coded ? C(*call.in[6].as<float>()) : C(1));
        const C v_scale = coded ? C(*call.in[7].as<float>()) : C(1);
        const P *k = call.in[1].as<P>(), *v = call.in[2].as<P>();
        r.for_each<T, C>(
            call, scratch_elements(),
            [&](const T* q, T* o, std::int64_t visible, auto&& at, C* scratch) {
                C *p = scratch, *query = p + r.keys(), *sums = query + r.d, *wide = sums + r.d;
                for (std::int64_t i = 0; i < r.d; ++i) query[i] = C(q[i]) * k_scale;
                const Softmax<C> softmax = attend_row(
                    query, r.d, visible, [&](std::int64_t s) { return widen(k + at(s), wide); },
                    [&](std::int64_t s) { return widen(v + at(s), wide); }, p, sums);
                const C factor = v_scale / softmax.sum;
                for (std::int64_t i = 0; i < r.d; ++i) o[i] = round_to<T>(sums[i] * factor);
            });
    }
};

template <class T, class P>
Prepared prepare_over(const NodeView& node) {
    const PagedAttentionKernel<T, P> kernel{PagedRows(node)};
    return {kernel, kernel.r.slots * kernel.scratch_elements() *
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
