// Shared by the kernels of attention over a cache in blocks.
#pragma once

#include <array>

#include "backends/cpu/attention.h"

namespace octavo::cpu {

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

// A query of one head at a time, and where its keys and values lie.
struct PagedRows {
    PagedAttention op;
    std::int64_t rows, heads, groups, d, table, slots;

    explicit PagedRows(const NodeView& node)
        : op(std::get<PagedAttention>(node.op)),
          rows(node.in[0].shape[0] * node.in[0].shape[1]),
          heads(node.in[0].shape[2]),
          groups(node.in[1].shape[1]),
          d(node.in[0].shape[3]),
          table(node.in[5].shape[1]),
          slots(slot_count(rows * heads)) {}

    std::int64_t keys() const { return table * op.block; }

    // attend(q, o, visible, at, scratch) for every query: its elements, where its result goes, the
    // keys it sees, of which there are some, and `at(s)`, where key s begins in a pool. The results
    // of queries that see none are zeros. Scratch has `scratch_elements` of C.
    template <class T, class C, class Attend>
    void for_each(const KernelCall& call, std::int64_t scratch_elements, Attend&& attend) const {
        for_each_task(rows * heads, slots, [&](std::int64_t task, std::int64_t slot) {
            const std::int64_t row = task / heads, head = task % heads;
            const std::int64_t visible = std::clamp<std::int64_t>(
                call.in[3].as<std::int32_t>()[row] + std::int64_t{1}, 0, keys());
            const std::int32_t* blocks =
                call.in[5].as<std::int32_t>() + call.in[4].as<std::int32_t>()[row] * table;
            const auto at = [&](std::int64_t s) {
                const std::int64_t place = blocks[s / op.block] * op.block + s % op.block;
                return (place * groups + head / (heads / groups)) * d;
            };
            const T* q = call.in[0].as<T>() + task * d;
            T* o = call.out[0].as<T>() + task * d;
            if (visible == 0) {
                std::fill_n(o, d, T(0.0f));
                return;
            }
            attend(q, o, visible, at, reinterpret_cast<C*>(call.scratch) + slot * scratch_elements);
        });
    }
};

Prepared prepare_paged_attention_fp8(const NodeView&);  // with a scale of q

}  // namespace octavo::cpu
