// Shared by the kernels of attention and its gradient.
#pragma once

#include <atomic>
#include <functional>
#include <limits>

#include "backends/cpu/kernels.h"
#include "backends/cpu/math.h"

namespace octavo::cpu {

struct AttentionExtents {
    std::int64_t b, t, h, g, d;

    std::int64_t query_row(std::int64_t batch, std::int64_t row, std::int64_t head) const {
        return ((batch * t + row) * h + head) * d;
    }
    std::int64_t key_row(std::int64_t batch, std::int64_t row, std::int64_t group) const {
        return ((batch * t + row) * g + group) * d;
    }
};

inline AttentionExtents attention_extents(const NodeView& node) {
    const Shape &q = node.in[0].shape, &k = node.in[1].shape;
    return {.b = q[0], .t = q[1], .h = q[2], .g = k[2], .d = q[3]};
}

// The keys that a query sees: [begin, end).
struct KeyRange {
    std::int64_t begin, end;
};
struct SeenKeys {
    AttentionExtents e;
    const std::int32_t* starts;  // of each query's document; null: 0

    KeyRange of(std::int64_t batch, std::int64_t row) const {
        return {starts ? std::clamp<std::int64_t>(starts[batch * e.t + row], 0, row) : 0, row + 1};
    }
};

// With the operand `starts`, if it is there.
inline SeenKeys seen_keys(const AttentionExtents& e, const KernelCall& call, std::size_t starts) {
    return {e, call.in.size() > starts ? call.in[starts].as<std::int32_t>() : nullptr};
}

// Of the scores of a query: their maximum, and the sum of e^(score - top).
template <class C>
struct Softmax {
    C top, sum;
};

// A query over its keys by definition, in ascending order: `sums` (D) become those of
// e^(score - top) times values.
//     query (D), multiplied by the scale; key(s) and value(s), s < count, rows of D elements that
//     are good until the next call; p (count), scratch; score_of(product of query and key) and
//     weight_of(e^(score - top)), where these are more than that
template <class C, class Key, class Value, class Score = std::identity,
          class Weight = std::identity>
Softmax<C> attend_row(const C* query, std::int64_t d, std::int64_t count, Key&& key, Value&& value,
                      C* p, C* sums, Score&& score_of = {}, Weight&& weight_of = {}) {
    C top = std::numeric_limits<C>::lowest();
    for (std::int64_t s = 0; s < count; ++s) {
        const auto k = key(s);
        C product = 0;
#pragma omp simd reduction(+ : product)
        for (std::int64_t i = 0; i < d; ++i) product += query[i] * C(k[i]);
        p[s] = score_of(product);
        top = std::max(top, p[s]);
    }
    C sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t s = 0; s < count; ++s) {
        p[s] = exp(p[s] - top);
        sum += p[s];
    }
    std::fill_n(sums, d, C(0));
    for (std::int64_t s = 0; s < count; ++s) {
        const auto v = value(s);
        const C weight = weight_of(p[s]);
#pragma omp simd
        for (std::int64_t i = 0; i < d; ++i) sums[i] += weight * C(v[i]);
    }
    return {top, sum};
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
Prepared prepare_attention_grad_reference(const NodeView&);

}  // namespace octavo::cpu
