// Paged attention of single rows: those of a call that decodes, or some of one that does not.
#pragma once

#include "backends/cuda/paged_attention.cuh"

namespace octavo::cuda {

inline constexpr std::int64_t kMostDecodedRows = 2048;  // their splits are in shared memory

// All rows of a call, or `*listed` ones.
struct DecodedRows {
    int most;
    const std::int32_t *rows = nullptr, *listed = nullptr;

    __device__ int count() const { return listed ? *listed : most; }
    __device__ int row(int i) const { return rows ? rows[i] : i; }
};

// Heads of 64 or 128 elements, up to 16 in a group. Scratch is for list.most rows.
template <class P>
void decode_rows(const PagedOperands<P>&, int d, const DecodedRows&, std::byte* scratch);
std::int64_t decode_scratch_bytes(std::int64_t rows, std::int64_t heads, std::int64_t d);

// What neither kernel on tensor cores takes.
Refusal reject_paged_cores(const NodeView&);

}  // namespace octavo::cuda
