// Copies of whole rows between places that a small function names: tables, caches, pieces of
// columns. Elements travel as the largest unit that all rows are made of.
#pragma once

#include <numeric>

#include "backends/cuda/kernels.cuh"

namespace octavo::cuda {

// Bytes of the largest unit, at most 16, that divides all sizes added.
class CopyUnit {
  public:
    void add(std::int64_t bytes) { bytes_ = std::gcd(bytes_, bytes); }

    // f(std::type_identity<Unit>{})
    template <class F>
    void dispatch(F&& f) const {
        switch (bytes_) {
            case 16:
                return f(std::type_identity<uint4>{});
            case 8:
                return f(std::type_identity<uint2>{});
            case 4:
                return f(std::type_identity<std::uint32_t>{});
            default:
                return f(std::type_identity<std::uint16_t>{});
        }
    }

  private:
    std::int64_t bytes_ = 16;
};

template <class Unit>
struct RowCopy {
    const Unit* from;  // null: zeros
    Unit* to;          // null: nothing is written
    std::int64_t units;
};

template <class Body>
__global__ void __launch_bounds__(kBlock) row_copies_kernel(Body body) {
    const auto copy = body(std::int64_t{blockIdx.x}, static_cast<int>(blockIdx.y));
    if (!copy.to) return;
    if (copy.from) {
        for (std::int64_t i = threadIdx.x; i < copy.units; i += blockDim.x) {
            copy.to[i] = copy.from[i];
        }
    } else {
        for (std::int64_t i = threadIdx.x; i < copy.units; i += blockDim.x) copy.to[i] = {};
    }
}

// body(row, piece) gives the RowCopy that a block does; rows have about `units` units.
template <class Body>
void copy_rows(std::string_view what, std::int64_t rows, int pieces, std::int64_t units,
               const Body& body) {
    if (rows == 0 || pieces == 0 || units == 0) return;
    const std::int64_t threads =
        std::clamp<std::int64_t>(ceil_div(units, kWarp) * kWarp, kWarp, kBlock);
    row_copies_kernel<<<dim3(static_cast<unsigned>(rows), static_cast<unsigned>(pieces)),
                        static_cast<unsigned>(threads), 0, stream()>>>(body);
    launched(what);
}

inline std::int64_t row_bytes(const Type& t) {
    return t.shape.last() * static_cast<std::int64_t>(size_of(t.dtype));
}

// ---- Rows by number ----------------------------------------------------------------------------

template <class Unit>
struct ChosenRows {
    const Unit* x;
    const std::int32_t* rows;
    Unit* y;
    std::int64_t units;

    __device__ RowCopy<Unit> operator()(std::int64_t i, int) const {
        const std::int32_t row = rows[i];
        return {row < 0 ? nullptr : x + row * units, y + i * units, units};
    }
};

// y[i] = x[rows[i]], zeros for negative numbers: operands x and rows, result y.
inline void copy_chosen_rows(std::string_view what, const KernelCall& call) {
    const Type& y = call.out[0].type;
    CopyUnit unit;
    unit.add(row_bytes(y));
    unit.dispatch([&](auto tag) {
        using Unit = typename decltype(tag)::type;
        const std::int64_t units = row_bytes(y) / static_cast<std::int64_t>(sizeof(Unit));
        copy_rows(what, y.shape.rows(), 1, units,
                  ChosenRows<Unit>{call.in[0].as<Unit>(), call.in[1].as<std::int32_t>(),
                                   call.out[0].as<Unit>(), units});
    });
}

// ---- Pieces of columns -------------------------------------------------------------------------

// Where the pieces of a wide row begin and how long they are, in units.
template <class Unit>
struct Pieces {
    static constexpr int kMost = 16;
    Unit* data[kMost];
    std::int64_t begin[kMost], units[kMost];
};

template <class Unit, bool kSplit>
struct PiecesOfRow {
    Unit* wide;
    std::int64_t wide_units;
    Pieces<Unit> pieces;

    __device__ RowCopy<Unit> operator()(std::int64_t row, int piece) const {
        const std::int64_t n = pieces.units[piece];
        Unit* const apart = pieces.data[piece] + row * n;
        Unit* const joined = wide + row * wide_units + pieces.begin[piece];
        if constexpr (kSplit) {
            return {joined, apart, n};
        } else {
            return {apart, joined, n};
        }
    }
};

// Copies the columns of `wide` to the pieces (kSplit), or the pieces to the columns.
template <bool kSplit>
void copy_pieces(std::string_view what, const TensorRef& wide, std::span<const TensorRef> pieces) {
    CopyUnit unit;
    for (const TensorRef& piece : pieces) unit.add(row_bytes(piece.type));
    unit.dispatch([&](auto tag) {
        using Unit = typename decltype(tag)::type;
        const auto units = [](const TensorRef& t) {
            return row_bytes(t.type) / static_cast<std::int64_t>(sizeof(Unit));
        };
        PiecesOfRow<Unit, kSplit> body{wide.as<Unit>(), units(wide), {}};
        std::int64_t begin = 0;
        while (!pieces.empty()) {
            const auto some = pieces.first(std::min<std::size_t>(pieces.size(), body.pieces.kMost));
            std::int64_t longest = 0;
            for (std::size_t i = 0; i < some.size(); ++i) {
                body.pieces.data[i] = some[i].template as<Unit>();
                body.pieces.begin[i] = begin;
                body.pieces.units[i] = units(some[i]);
                begin += units(some[i]);
                longest = std::max(longest, units(some[i]));
            }
            copy_rows(what, wide.type.shape.rows(), static_cast<int>(some.size()), longest, body);
            pieces = pieces.subspan(some.size());
        }
    });
}

}  // namespace octavo::cuda
