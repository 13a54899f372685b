// Shared by the kernels of attention and its gradient.
#pragma once

#include <atomic>

#include "backends/cpu/kernels.h"

namespace octavo::cpu {

struct AttentionExtents {
    std::int64_t b, t, s, h, g, d;

    std::int64_t query_row(std::int64_t batch, std::int64_t row, std::int64_t head) const {
        return ((batch * t + row) * h + head) * d;
    }
    std::int64_t key_row(std::int64_t batch, std::int64_t row, std::int64_t group) const {
        return ((batch * s + row) * g + group) * d;
    }
};

inline AttentionExtents attention_extents(const NodeView& node) {
    const Shape &q = node.in[0].shape, &k = node.in[1].shape;
    return {.b = q[0], .t = q[1], .s = k[1], .h = q[2], .g = k[2], .d = q[3]};
}

// The keys that a query sees: [begin, end).
struct KeyRange {
    std::int64_t begin, end;
};
struct SeenKeys {
    AttentionExtents e;
    const std::int32_t *positions, *starts;  // null where there are none

    KeyRange of(std::int64_t batch, std::int64_t row) const {
        const std::int64_t at = batch * e.t + row;
        if (positions)
            return {0, std::clamp<std::int64_t>(positions[at] + std::int64_t{1}, 0, e.s)};
        return {starts ? std::clamp<std::int64_t>(starts[at], 0, row) : 0, row + 1};
    }
};

inline SeenKeys seen_keys(const AttentionExtents& e, const Attention& op, const KernelCall& call) {
    const std::int32_t* more = call.in.size() > 3 ? call.in[3].as<std::int32_t>() : nullptr;
    return {e, op.documents ? nullptr : more, op.documents ? more : nullptr};
}
inline SeenKeys seen_keys(const AttentionExtents& e, const AttentionGrad&, const KernelCall& call) {
    return {e, nullptr, call.in.size() > 6 ? call.in[6].as<std::int32_t>() : nullptr};
}

// body(task, slot) for every task, in order of availability: tasks differ in length. Scratch is per
// slot, of which there are as many as threads.
inline std::int64_t slot_count(std::int64_t tasks) {
    return std::min<std::int64_t>(tasks, thread_count());
}
template <class Body>
void for_each_task(std::int64_t tasks, std::int64_t slots, Body&& body) {
    std::atomic<std::int64_t> next = 0;
    parallel_for(slots, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t slot = begin; slot < end; ++slot) {
            for (std::int64_t task; (task = next.fetch_add(1)) < tasks;) body(task, slot);
        }
    });
}

// Rows of D elements, `stride` elements apart, as dense f32 in `to`. Even f32 rows are copied:
// sgemm packs them from here several times, and those of one head lie far apart.
template <class T>
void copy_rows(const T* x, std::int64_t n, std::int64_t stride, std::int64_t d, float* to) {
    for (std::int64_t i = 0; i < n; ++i) {
        const T* from = x + i * stride;
#pragma omp simd
        for (std::int64_t j = 0; j < d; ++j) to[i * d + j] = to_f32(from[j]);
    }
}

// Query rows per block: enough for sgemm to be quick, few enough to skip what causality hides.
inline constexpr std::int64_t kBlockRows = 64;

// Rows of scores lie this far apart: at a power of two, columns would share a few cache sets.
inline std::int64_t score_stride(std::int64_t keys) { return (keys + 15) / 16 * 16 + 16; }

Prepared prepare_attention_reference(const NodeView&);
Prepared prepare_paged_attention_fp8(const NodeView&);  // with a scale of q
Prepared prepare_attention_grad_reference(const NodeView&);

}  // namespace octavo::cpu
