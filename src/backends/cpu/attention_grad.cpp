#include "backends/cpu/attention.h"
#include "backends/cpu/math.h"
#include "backends/cpu/onednn.h"

namespace octavo::cpu {
namespace {

// All that concerns one key head: its query heads, block by block of rows, each adding to the same
// dk and dv, so the sums have one order whatever the number of threads.
template <class T>
struct BlockedAttentionGrad {
    AttentionExtents e;
    AttentionGrad op;
    std::int64_t slots;

    std::int64_t scratch_floats() const {
        return kBlockRows * (2 * score_stride(e.t) + 4 * e.d) + 4 * e.t * e.d;
    }

    void operator()(const KernelCall& call) const {
        for_each_task(e.b * e.g, slots, [&](std::int64_t task, std::int64_t slot) {
            key_head(call, task / e.g, task % e.g,
                     reinterpret_cast<float*>(call.scratch) + slot * scratch_floats());
        });
    }

    struct Scratch {
        float *p, *ds;             // (rows, columns)
        float *q, *o, *dout, *dq;  // (rows, D)
        float *k, *v, *dk, *dv;    // (T, D)
    };
    Scratch cut(float* at) const {
        const auto take = [&](std::int64_t n) {
            float* part = at;
            at += n;
            return part;
        };
        const std::int64_t scores = kBlockRows * score_stride(e.t);
        const std::int64_t rows = kBlockRows * e.d, keys = e.t * e.d;
        return {.p = take(scores),
                .ds = take(scores),
                .q = take(rows),
                .o = take(rows),
                .dout = take(rows),
                .dq = take(rows),
                .k = take(keys),
                .v = take(keys),
                .dk = take(keys),
                .dv = take(keys)};
    }

    void key_head(const KernelCall& call, std::int64_t batch, std::int64_t group,
                  float* memory) const {
        const Scratch s = cut(memory);
        const std::int64_t at = e.key_row(batch, 0, group), step = e.g * e.d;
        copy_rows(call.in[1].as<T>() + at, e.t, step, e.d, s.k);
        copy_rows(call.in[2].as<T>() + at, e.t, step, e.d, s.v);
        std::fill_n(s.dk, e.t * e.d, 0.0f);
        std::fill_n(s.dv, e.t * e.d, 0.0f);
        const std::int64_t heads = e.h / e.g;
        for (std::int64_t head = group * heads; head < (group + 1) * heads; ++head) {
            for (std::int64_t first = 0; first < e.t; first += kBlockRows) {
                query_block(call, batch, head, first, s);
            }
        }
        store(s.dk, e.t, call.out[1].as<T>() + at, step);
        store(s.dv, e.t, call.out[2].as<T>() + at, step);
    }

    void query_block(const KernelCall& call, std::int64_t batch, std::int64_t head,
                     std::int64_t first, const Scratch& s) const {
        const std::int64_t rows = std::min(kBlockRows, e.t - first);
        const SeenKeys seen = seen_keys(e, call, 6);
        const std::int64_t begin = seen.of(batch, first).begin;  // that any of the rows sees
        const std::int64_t columns = first + rows - begin, stride = score_stride(e.t);
        const float *k = s.k + begin * e.d, *v = s.v + begin * e.d;
        float *dk = s.dk + begin * e.d, *dv = s.dv + begin * e.d;
        const std::int64_t at = e.query_row(batch, first, head), step = e.h * e.d;
        copy_rows(call.in[0].as<T>() + at, rows, step, e.d, s.q);
        copy_rows(call.in[3].as<T>() + at, rows, step, e.d, s.o);
        copy_rows(call.in[5].as<T>() + at, rows, step, e.d, s.dout);
        const float* lse = call.in[4].as<float>() + (batch * e.h + head) * e.t + first;

        sgemm(false, true, rows, columns, e.d, op.scale, s.q, e.d, k, e.d, 0, s.p, stride);
        sgemm(false, true, rows, columns, e.d, 1, s.dout, e.d, v, e.d, 0, s.ds, stride);
        for (std::int64_t r = 0; r < rows; ++r) {
            const float delta = dot(s.dout + r * e.d, s.o + r * e.d);
            const KeyRange own = seen.of(batch, first + r);
            score_row(s.p + r * stride, s.ds + r * stride, {own.begin - begin, own.end - begin},
                      columns, lse[r], delta);
        }
        sgemm(true, false, columns, e.d, rows, 1, s.p, stride, s.dout, e.d, 1, dv, e.d);
        sgemm(true, false, columns, e.d, rows, op.scale, s.ds, stride, s.q, e.d, 1, dk, e.d);
        sgemm(false, false, rows, e.d, columns, op.scale, s.ds, stride, k, e.d, 0, s.dq, e.d);
        store(s.dq, rows, call.out[0].as<T>() + at, step);
    }

    // Scores and dp become p and ds; both are zero for keys that the query does not see.
    static void score_row(float* __restrict p, float* __restrict ds, KeyRange seen,
                          std::int64_t columns, float lse, float delta) {
#pragma omp simd
        for (std::int64_t j = seen.begin; j < seen.end; ++j) {
            p[j] = exp(p[j] - lse);
            ds[j] = p[j] * (ds[j] - delta);
        }
        for (float* x : {p, ds}) {
            std::fill(x, x + seen.begin, 0.0f);
            std::fill(x + seen.end, x + columns, 0.0f);
        }
    }

    float dot(const float* x, const float* y) const {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t i = 0; i < e.d; ++i) sum += x[i] * y[i];
        return sum;
    }

    void store(const float* from, std::int64_t rows, T* to, std::int64_t step) const {
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t i = 0; i < e.d; ++i)
                to[r * step + i] = round_to<T>(from[r * e.d + i]);
        }
    }
};

Refusal reject_blocked(const NodeView& node) {
    if (node.in[0].dtype == Dtype::f64) return "f64";
    if (node.in[0].shape.elements() == 0) return "no elements";
    return std::nullopt;
}

Prepared prepare_blocked(const NodeView& node) {
    const AttentionExtents e = attention_extents(node);
    return dispatch_plain(node.in[0].dtype, [&](auto tag) -> Prepared {
        using T = typename decltype(tag)::type;
        if constexpr (std::is_same_v<T, double>) {
            fail("attention_grad: the blocked kernel computes in f32");
        } else {
            const BlockedAttentionGrad<T> kernel{e, std::get<AttentionGrad>(node.op),
                                                 slot_count(e.b * e.g)};
            return {kernel, kernel.slots * kernel.scratch_floats() *
                                static_cast<std::int64_t>(sizeof(float))};
        }
    });
}

}  // namespace

void register_attention_grad(KernelRegistry& registry) {
    registry.add<AttentionGrad>({"onednn_f32", reject_blocked, prepare_blocked});
    registry.add<AttentionGrad>({"reference", takes_all, prepare_attention_grad_reference});
}

}  // namespace octavo::cpu
