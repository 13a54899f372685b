// Cosines and sines of the rotary embedding.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "graph/op.h"

namespace octavo::cpu {

template <class C>
struct RopeTable {
    std::vector<C> cosine, sine;  // (positions, half)
};

// For positions 0 to `positions` - 1 and `half` frequencies; op.inverse does not matter. Tables
// that are alive are shared: every layer asks for the same one, and they can have many megabytes.
template <class C>
std::shared_ptr<const RopeTable<C>> rope_table(const Rope& op, std::int64_t positions,
                                               std::int64_t half);

}  // namespace octavo::cpu
