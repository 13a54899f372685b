// Cosines and sines of rotary positions on the GPU, from angles in double.
#pragma once

#include <cstdint>
#include <memory>

#include "graph/op.h"

namespace octavo::cuda {

template <class C>  // float or double
struct RopeTable {
    RopeTable(std::int64_t positions, std::int64_t half);
    ~RopeTable();
    RopeTable(const RopeTable&) = delete;
    RopeTable& operator=(const RopeTable&) = delete;

    C *cosine = nullptr, *sine = nullptr;  // (positions, half)
};

// Shared by all that ask for the same.
template <class C>
std::shared_ptr<const RopeTable<C>> rope_table(const Rope&, std::int64_t positions,
                                               std::int64_t half);

}  // namespace octavo::cuda
