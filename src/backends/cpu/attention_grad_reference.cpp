// Gradients of attention by their definition, a query at a time.
#include "backends/cpu/attention.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {
namespace {

template <class T, class C = compute_t<T>>
struct DirectAttentionGrad {
    AttentionExtents e;
    AttentionGrad op;
    std::int64_t slots;

    std::int64_t scratch_elements() const { return (2 * e.t + 1) * e.d; }

    void operator()(const KernelCall& call) const {
        for_each_task(e.b * e.g, slots, [&](std::int64_t task, std::int64_t slot) {
            C* dk = reinterpret_cast<C*>(call.scratch) + slot * scratch_elements();
            C *dv = dk + e.t * e.d, *dq = dv + e.t * e.d;
            std::fill_n(dk, scratch_elements(), C(0));
            const std::int64_t batch = task / e.g, group = task % e.g, heads = e.h / e.g;
            for (std::int64_t head = group * heads; head < (group + 1) * heads; ++head) {
                for (std::int64_t row = 0; row < e.t; ++row) {
                    query(call, batch, head, row, dq, dk, dv);
                }
            }
            T* dk_out = call.out[1].as<T>() + e.key_row(batch, 0, group);
            T* dv_out = call.out[2].as<T>() + e.key_row(batch, 0, group);
            for (std::int64_t s = 0; s < e.t; ++s) {
                for (std::int64_t i = 0; i < e.d; ++i) {
                    dk_out[s * e.g * e.d + i] = round_to<T>(dk[s * e.d + i]);
                    dv_out[s * e.g * e.d + i] = round_to<T>(dv[s * e.d + i]);
                }
            }
        });
    }

    C dot(const T* x, const T* y) const {
        C sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t i = 0; i < e.d; ++i) sum += C(x[i]) * C(y[i]);
        return sum;
    }

    void query(const KernelCall& call, std::int64_t batch, std::int64_t head, std::int64_t row,
               C* dq, C* dk, C* dv) const {
        const std::int64_t at = e.query_row(batch, row, head);
        const std::int64_t first_key = e.key_row(batch, 0, head / (e.h / e.g));
        const T *q = call.in[0].as<T>() + at, *o = call.in[3].as<T>() + at;
        const T* dout = call.in[5].as<T>() + at;
        const T *k = call.in[1].as<T>() + first_key, *v = call.in[2].as<T>() + first_key;
        const C lse = call.in[4].as<C>()[(batch * e.h + head) * e.t + row];
        const C delta = dot(dout, o);
        const C scale(op.scale);
        const KeyRange seen = seen_keys(e, call, 6).of(batch, row);
        std::fill_n(dq, e.d, C(0));
        for (std::int64_t s = seen.begin; s < seen.end; ++s) {
            const T *ks = k + s * e.g * e.d, *vs = v + s * e.g * e.d;
            const C p = exp(scale * dot(q, ks) - lse);
            const C ds = p * (dot(dout, vs) - delta) * scale;
            for (std::int64_t i = 0; i < e.d; ++i) {
                dv[s * e.d + i] += p * C(dout[i]);
                dk[s * e.d + i] += ds * C(q[i]);
                dq[i] += ds * C(ks[i]);
            }
        }
        T* to = call.out[0].as<T>() + at;
        for (std::int64_t i = 0; i < e.d; ++i) to[i] = round_to<T>(dq[i]);
    }
};

}  // namespace

Prepared prepare_attention_grad_reference(const NodeView& node) {
    const AttentionExtents e = attention_extents(node);
    return dispatch_plain(node.in[0].dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using C = compute_t<T>;
        const DirectAttentionGrad<T> kernel{e, std::get<AttentionGrad>(node.op),
                                            slot_count(e.b * e.g)};
        return Prepared{kernel, kernel.slots * kernel.scratch_elements() *
                                    static_cast<std::int64_t>(sizeof(C))};
    });
}

}  // namespace octavo::cpu
