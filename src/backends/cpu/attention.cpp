#include "backends/cpu/attention.h"

#include <array>
#include <cmath>
#include <limits>

#include "backends/cpu/math.h"
#include "backends/cpu/onednn.h"

namespace octavo::cpu {
namespace {

// e^(x - top) in place, zero outside `seen` of `columns`.
Softmax<float> softmax_row(float* x, KeyRange seen, std::int64_t columns) {
    float m = std::numeric_limits<float>::lowest();
#pragma omp simd reduction(max : m)
    for (std::int64_t s = seen.begin; s < seen.end; ++s) m = x[s] > m ? x[s] : m;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t s = seen.begin; s < seen.end; ++s) {
        x[s] = exp(x[s] - m);
        sum += x[s];
    }
    std::fill(x, x + seen.begin, 0.0f);
    std::fill(x + seen.end, x + columns, 0.0f);
    return {m, sum};
}

// A block of query rows of one head against all the keys that any of them sees, through two small
// products. Blocks are independent, so they run side by side.
template <class T>
struct BlockedAttention {
    AttentionExtents e;
    Attention op;
    std::int64_t tasks, slots;

    std::int64_t row_blocks() const { return (e.t + kBlockRows - 1) / kBlockRows; }
    std::int64_t scratch_floats() const {
        return kBlockRows * (score_stride(e.t) + 2 * e.d) + 2 * e.t * e.d;
    }

    void operator()(const KernelCall& call) const {
        for_each_task(tasks, slots, [&](std::int64_t task, std::int64_t slot) {
            // The long blocks at the end of the sequences come first.
            const std::int64_t block = row_blocks() - 1 - task / (e.b * e.h);
            const std::int64_t batch = task / e.h % e.b, head = task % e.h;
            attend(call, batch, head, block * kBlockRows,
                   reinterpret_cast<float*>(call.scratch) + slot * scratch_floats());
        });
    }

    void attend(const KernelCall& call, std::int64_t batch, std::int64_t head, std::int64_t first,
                float* scratch) const {
        const SeenKeys seen = seen_keys(e, call, 3);
        const std::int64_t rows = std::min(kBlockRows, e.t - first);
        const std::int64_t group = head / (e.h / e.g);
        const std::int64_t begin = seen.of(batch, first).begin;  // that any of the rows sees
        const std::int64_t columns = first + rows - begin, stride = score_stride(e.t);

        float* scores = scratch;                  // (rows, columns)
        float* q = scores + kBlockRows * stride;  // (rows, D)
        float* sums = q + kBlockRows * e.d;       // (rows, D)
        float* k = sums + kBlockRows * e.d;       // (columns, D)
        float* v = k + e.t * e.d;                 // (columns, D)
        const std::int64_t first_query = e.query_row(batch, first, head);
        const std::int64_t first_key = e.key_row(batch, begin, group);
        copy_rows(call.in[0].as<T>() + first_query, rows, e.h * e.d, e.d, q);
        copy_rows(call.in[1].as<T>() + first_key, columns, e.g * e.d, e.d, k);
        copy_rows(call.in[2].as<T>() + first_key, columns, e.g * e.d, e.d, v);
        T* o = call.out[0].as<T>() + first_query;
        float* lse = call.out[1].as<float>() + (batch * e.h + head) * e.t + first;

        std::array<float, kBlockRows> factor;
        sgemm(false, true, rows, columns, e.d, op.scale, q, e.d, k, e.d, 0, scores, stride);
        for (std::int64_t r = 0; r < rows; ++r) {
            const KeyRange own = seen.of(batch, first + r);
            const auto [top, sum] =
                softmax_row(scores + r * stride, {own.begin - begin, own.end - begin}, columns);
            factor[r] = 1.0f / sum;
            lse[r] = top + std::log(sum);
        }
        sgemm(false, false, rows, e.d, columns, 1, scores, stride, v, e.d, 0, sums, e.d);
        for (std::int64_t r = 0; r < rows; ++r) {
            T* to = o + r * e.h * e.d;
            for (std::int64_t i = 0; i < e.d; ++i)
                to[i] = round_to<T>(sums[r * e.d + i] * factor[r]);
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
    const Attention& op = std::get<Attention>(node.op);
    return dispatch_plain(node.in[0].dtype, [&](auto tag) -> Prepared {
        using T = typename decltype(tag)::type;
        if constexpr (std::is_same_v<T, double>) {
            fail("attention: the blocked kernel computes in f32");
        } else {
            BlockedAttention<T> kernel{e, op, 0, 0};
            kernel.tasks = e.b * e.h * kernel.row_blocks();
            kernel.slots = slot_count(kernel.tasks);
            return {kernel, kernel.slots * kernel.scratch_floats() *
                                static_cast<std::int64_t>(sizeof(float))};
        }
    });
}

}  // namespace

void register_attention(KernelRegistry& registry) {
    registry.add<Attention>({"onednn_f32", reject_blocked, prepare_blocked});
    registry.add<Attention>({"reference", takes_all, prepare_attention_reference});
}

}  // namespace octavo::cpu
