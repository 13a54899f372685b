// Shared by the kernels of attention and its gradient.
#pragma once

#include "backends/cuda/kernels.h"

namespace octavo::cuda {

struct AttentionExtents {
    std::int64_t b, t, h, g, d;

    constexpr std::int64_t query_row(std::int64_t batch, std::int64_t row,
                                     std::int64_t head) const {
        return ((batch * t + row) * h + head) * d;
    }
    constexpr std::int64_t key_row(std::int64_t batch, std::int64_t row, std::int64_t group) const {
        return ((batch * t + row) * g + group) * d;
    }
    constexpr std::int64_t lse_at(std::int64_t batch, std::int64_t row, std::int64_t head) const {
        return (batch * h + head) * t + row;
    }
    constexpr std::int64_t group_of(std::int64_t head) const { return head / (h / g); }
};

inline AttentionExtents attention_extents(const NodeView& node) {
    const Shape &q = node.in[0].shape, &k = node.in[1].shape;
    return {.b = q[0], .t = q[1], .h = q[2], .g = k[2], .d = q[3]};
}

// A warp per row, without tensor cores: everything but heads of more than 256 elements.
Refusal reject_attention_rows(const NodeView&);
Prepared prepare_attention_rows(const NodeView&);
Refusal reject_attention_grad_rows(const NodeView&);
Prepared prepare_attention_grad_rows(const NodeView&);

}  // namespace octavo::cuda
