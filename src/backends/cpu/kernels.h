// Shared by the kernels of this folder: one file per op, each with one register function.
#pragma once

#include <algorithm>

#include "backends/kernels.h"
#include "base/parallel.h"

namespace octavo::cpu {

#define OP(T, file) void register_##file(KernelRegistry&);
#include "graph/ops.inc"
#undef OP

// How products of matrices are computed: as fast as the processor can, in an order of sums that
// depends on their shapes, or in one that is the same for a row whatever the others are.
enum class Products : std::uint8_t { fast, by_rows };

// All of them.
const KernelRegistry& kernel_registry(Products = Products::fast);
void register_matmul_by_rows(KernelRegistry&);

// Rows handed to a thread at least: about 16 KiB of work, below which waking threads costs more.
inline std::int64_t row_grain(std::int64_t row_elements) {
    return std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, row_elements));
}

// Column sums over rows, as weight gradients of norms and biases need them: rows are cut into
// chunks that depend on the shape alone, each chunk sums into its own partial row, and the partials
// are added in order. The result is therefore the same for any number of threads.
inline constexpr std::int64_t kRowChunks = 64;

inline std::int64_t row_chunks(std::int64_t rows) { return std::min(rows, kRowChunks); }

template <class C>
std::int64_t row_chunk_bytes(std::int64_t rows, std::int64_t columns) {
    return row_chunks(rows) * columns * static_cast<std::int64_t>(sizeof(C));
}

// body(begin, end, partial) adds its rows into `partial` (columns, zeroed).
template <class C, class Body>
void sum_over_row_chunks(std::int64_t rows, std::int64_t columns, std::byte* scratch, C* sum,
                         Body&& body) {
    C* partials = reinterpret_cast<C*>(scratch);
    const std::int64_t chunks = row_chunks(rows);
    parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            C* partial = partials + i * columns;
            std::fill_n(partial, columns, C(0));
            body(rows * i / chunks, rows * (i + 1) / chunks, partial);
        }
    });
    parallel_for(columns, row_grain(chunks), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j) sum[j] = C(0);
        for (std::int64_t i = 0; i < chunks; ++i) {
            for (std::int64_t j = begin; j < end; ++j) sum[j] += partials[i * columns + j];
        }
    });
}

}  // namespace octavo::cpu
