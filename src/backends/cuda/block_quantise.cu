// A tile holds whole 1x128 blocks and micro groups of the rows and of the columns, so both copies
// come from one read. Scales of whole rows or columns need their maxima first, which a pass of its
// own finds.
#include "base/block_scale.h"

#include "backends/cuda/block_quantise_rows.h"
#include "backends/cuda/convert.h"
#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/source_in_parts.h"
#include "backends/cuda/squares.cuh"
#include "backends/cuda/transpose.h"
#include "backends/quantise_source.h"

namespace octavo::cuda {
namespace {

constexpr int kLeast = 32;  // the shortest group
constexpr int kLeasts = kTile / kLeast;
static_assert(kTile == kScaleBlock && kBlock == 2 * kTile);
static_assert(kSquaresDown * kPacket == kLeast);

// The copy along the rows of x or, turned around, along its columns.
struct Side {
    std::uint8_t* codes = nullptr;  // null: not wanted
    float* scales = nullptr;
    std::uint8_t* groups = nullptr;
    std::int64_t pitch = 0, group_pitch = 0;
    std::uint32_t* tops = nullptr;  // amaxes of whole rows or columns
    int top_step = 1;               // 0: one amax for all of them
};

// Of each result of the source.
template <int kResults>
struct Sides {
    Side rows[kResults], columns[kResults];
};

// What elements are multiplied by, in this order.
struct Factors {
    float inverse, inv_scale;
    __device__ float operator()(float x) const { return (x * inverse) * inv_scale; }
};

// ---- Maxima ------------------------------------------------------------------------------------

// Maxima over four lanes, kStride apart, of eight values: each lane is left with two of them, the
// first two of `tops`, and gets the index of the first.
template <int kStride>
__device__ int share_maxima(std::uint32_t (&tops)[kPacket]) {
    const bool high = threadIdx.x & (2 * kStride), odd = threadIdx.x & kStride;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t given =
            __shfl_xor_sync(0xFFFFFFFF, high ? tops[i] : tops[i + 4], 2 * kStride);
        tops[i] = max(high ? tops[i + 4] : tops[i], given);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const std::uint32_t given =
            __shfl_xor_sync(0xFFFFFFFF, odd ? tops[i] : tops[i + 2], kStride);
        tops[i] = max(odd ? tops[i + 2] : tops[i], given);
    }
    return (high ? 4 : 0) + (odd ? 2 : 0);
}

// The maxima of a tile's rows and columns over the shortest groups.
struct TileTops {
    std::uint32_t of[2][kLeasts][kTile];  // [rows, columns][group][line]

    // By all threads, which see the whole of it afterwards.
    template <class T>
    __device__ void fill(const Square<T>& square, const Place& at) {
        std::uint32_t rows[kPacket], columns[kPacket];
        square.tops(rows, columns);
        const int row = at.row + share_maxima<1>(rows);
        const int column = at.column + share_maxima<kSquaresAcross>(columns);
        __syncthreads();  // those of an earlier square have been read
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            of[0][at.column / kLeast][row + i] = rows[i];
            of[1][at.row / kLeast][column + i] = columns[i];
        }
        __syncthreads();
    }
    // Over a longer group.
    template <int kGroup>
    __device__ std::uint32_t top(int side, int group, int line) const {
        constexpr int kParts = kGroup / kLeast;
        std::uint32_t top = 0;
#pragma unroll
        for (int i = 0; i < kParts; ++i) top = max(top, of[side][group * kParts + i][line]);
        return top;
    }
};

// A pass before the others, for scales of whole rows and columns.
__device__ inline void raise(std::uint32_t* top, std::uint32_t magnitude) {
    if (__ldcg(top) < magnitude) atomicMax(top, magnitude);
}

template <class T, class Source>
__global__ void __launch_bounds__(kBlock)
    tops_kernel(Source source, std::int64_t m, std::int64_t n,
                const __grid_constant__ Sides<Source::kResults> sides) {
    __shared__ TileTops tops;
    const Place at(m, n, blockIdx.x, blockIdx.y);
    Square<T> squares[Source::kResults];
    load_squares<T>(source, at, squares);
    const int side = static_cast<int>(threadIdx.x) / kTile, line = threadIdx.x % kTile;
#pragma unroll
    for (int r = 0; r < Source::kResults; ++r) {
        tops.fill(squares[r], at);
        const Side& to = side == 0 ? sides.rows[r] : sides.columns[r];
        const std::int64_t k = (side == 0 ? at.down : at.across) * kTile + line;
        if (to.codes && k < (side == 0 ? m : n)) {
            raise(to.tops + k * to.top_step, tops.top<kTile>(side, 0, line));
        }
    }
}

// ---- Codes -------------------------------------------------------------------------------------

// The factors of one group of one row (or column) from its amax; its scale and exponent go where
// they belong. `line` counts rows (columns), `block` the 128-blocks along it.
template <Granularity kGranularity, int kGroup>
__device__ Factors factors_of(const Side& side, const BlockScale& rule, std::uint32_t top,
                              std::int64_t line, std::int64_t lines, std::int64_t block, int group,
                              bool empty) {
    const bool inside = line < lines;
    if constexpr (kGranularity == Granularity::block_1x128) {
        const auto [scale, inv_scale] = rule(__uint_as_float(top));
        if (line < side.pitch) side.scales[block * side.pitch + line] = inside ? scale : 0;
        return {1.0f, inv_scale};
    } else {
        const float whole = inside ? __uint_as_float(side.tops[line * side.top_step]) : 0.0f;
        const auto [scale, inv_scale] = rule(whole);
        if (inside && block == 0 && group == 0) side.scales[line] = scale;
        int exponent = unit_exponent();
        if constexpr (kGranularity == Granularity::micro) {
            if (inside && !empty && is_finite_amax(whole)) {
                exponent = group_exponent(__uint_as_float(top), whole, rule.floor);
            }
            side.groups[block * side.group_pitch + line * (kTile / kGroup) + group] =
                static_cast<std::uint8_t>(exponent);
        }
        return {group_inverse(exponent), inv_scale};
    }
}

template <class To, Granularity kGranularity, int kGroup, class T, class Source>
__global__ void __launch_bounds__(kBlock, kBlocks<T, Source>)
    lines_kernel(Source source, std::int64_t m, std::int64_t n,
                 const __grid_constant__ Sides<Source::kResults> sides, BlockScale rule) {
    constexpr int kGroups = kTile / kGroup;
    __shared__ TileTops tops;
    __shared__ Factors factors[2][kGroups][kTile];
    // The other way around than `tops_kernel`: what it read last is in the cache.
    const bool again = kGranularity != Granularity::block_1x128;
    const Place at(m, n, again ? gridDim.x - 1 - blockIdx.x : blockIdx.x,
                   again ? gridDim.y - 1 - blockIdx.y : blockIdx.y);
    Square<T> squares[Source::kResults];
    load_squares<T>(source, at, squares);
    const int side = static_cast<int>(threadIdx.x) / kTile, line = threadIdx.x % kTile;
    const std::int64_t lines = side == 0 ? m : n, length = side == 0 ? n : m;
    const std::int64_t block = side == 0 ? at.across : at.down;
    const std::int64_t first = (side == 0 ? at.down : at.across) * kTile;
#pragma unroll
    for (int r = 0; r < Source::kResults; ++r) {
        const Side &rows = sides.rows[r], &columns = sides.columns[r];
        const Side& to = side == 0 ? rows : columns;
        tops.fill(squares[r], at);
#pragma unroll
        for (int g = 0; g < kGroups && to.codes; ++g) {
            factors[side][g][line] = factors_of<kGranularity, kGroup>(
                to, rule, tops.top<kGroup>(side, g, line), first + line, lines, block, g,
                block * kTile + g * kGroup >= length);
        }
        __syncthreads();
        if (rows.codes) {
            write_rows<To>(squares[r], at, rows.codes,
                           [&](int i) { return factors[0][at.column / kGroup][at.row + i]; });
        }
        if (columns.codes) {
            write_columns<To>(squares[r], at, columns.codes,
                              [&](int i) { return factors[1][at.row / kGroup][at.column + i]; });
        }
    }
}

// The scale of the block at (down, across) of a copy with this many blocks a row, and zeros behind
// the last.
__device__ inline void write_block_scale(const Side& side, std::int64_t down, std::int64_t across,
                                         std::int64_t blocks, float scale) {
    side.scales[down * side.pitch + across] = scale;
    if (across != blocks - 1) return;
    for (std::int64_t i = blocks; i < side.pitch; ++i) side.scales[down * side.pitch + i] = 0;
}

template <class To, class T, class Source>
__global__ void __launch_bounds__(kBlock, kBlocks<T, Source>)
    blocks_kernel(Source source, std::int64_t m, std::int64_t n,
                  const __grid_constant__ Sides<Source::kResults> sides, BlockScale rule) {
    __shared__ std::uint32_t block_top[Source::kResults];
    if (threadIdx.x < Source::kResults) block_top[threadIdx.x] = 0;
    const Place at(m, n, blockIdx.x, blockIdx.y);
    Square<T> squares[Source::kResults];
    load_squares<T>(source, at, squares);
    __syncthreads();
#pragma unroll
    for (int r = 0; r < Source::kResults; ++r) {
        const std::uint32_t top = warp_max(squares[r].top());
        if (threadIdx.x % kWarp == 0) atomicMax(&block_top[r], top);
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < Source::kResults; ++r) {
        const Side &rows = sides.rows[r], &columns = sides.columns[r];
        const auto [scale, inv_scale] = rule(__uint_as_float(block_top[r]));
        if (threadIdx.x == 0) {
            if (rows.codes) write_block_scale(rows, at.down, at.across, gridDim.x, scale);
            if (columns.codes) write_block_scale(columns, at.across, at.down, gridDim.y, scale);
        }
        write_square<To>(squares[r], at, rows.codes, columns.codes, inv_scale);
    }
}

// ---- Launching ---------------------------------------------------------------------------------

Side side_of(const TensorRef& y, bool global, std::uint32_t*& tops) {
    const ScaleLayout layout = scale_layout(y.type);
    Side side{.codes = y.as<std::uint8_t>(),
              .scales = y.scales(),
              .groups = y.groups,
              .pitch = layout.pitch,
              .group_pitch = layout.group_pitch,
              .tops = tops,
              .top_step = global ? 0 : 1};
    // A tensor's amax is the same along both.
    if (!global) tops += y.type.shape.rows();
    return side;
}

// `tops`: room for the maxima of the rows and columns of each result, zeros.
template <int kResults>
Sides<kResults> sides_of(const BlockQuantise& op, std::span<const TensorRef> out,
                         std::uint32_t* tops) {
    Sides<kResults> sides;
    std::size_t next = 0;
    for (int r = 0; r < kResults; ++r) {
        if (op.copies != Copies::columns) sides.rows[r] = side_of(out[next++], op.global, tops);
        if (op.copies != Copies::rows) sides.columns[r] = side_of(out[next++], op.global, tops);
        if (op.global) ++tops;
    }
    return sides;
}

BlockScale scale_rule(const BlockQuantise& op) {
    return {max_value(op.to), op.floor, op.rounding, op.rule};
}

// Whole rows have a scale in no training step, so that only values are compiled for them.
template <class T, class Source>
constexpr bool kWholeRows = std::is_same_v<Source, ValueSource<T>>;

bool on_the_way(const BlockQuantise& op, Dtype from) {
    const bool rows = op.scaling.granularity == Granularity::row;
    return has_source(op.of, from, op.to) && !(rows && op.of != QuantiseSource::value);
}

template <class To, class T, class Source>
void launch(const BlockQuantise& op, const Source& source, std::int64_t m, std::int64_t n,
            const Sides<Source::kResults>& sides) {
    const dim3 tiles = tiles_of(m, n);
    const BlockScale rule = scale_rule(op);
    const auto lines = [&]<Granularity kGranularity, int kGroup>() {
        if (kGranularity != Granularity::block_1x128) {
            tops_kernel<T><<<tiles, kBlock, 0, stream()>>>(source, m, n, sides);
        }
        lines_kernel<To, kGranularity, kGroup, T>
            <<<tiles, kBlock, 0, stream()>>>(source, m, n, sides, rule);
    };
    switch (op.scaling.granularity) {
        case Granularity::block_1x128:
            lines.template operator()<Granularity::block_1x128, 128>();
            break;
        case Granularity::block_128x128:
            blocks_kernel<To, T><<<tiles, kBlock, 0, stream()>>>(source, m, n, sides, rule);
            break;
        case Granularity::row:
            if constexpr (kWholeRows<T, Source>) {
                lines.template operator()<Granularity::row, 128>();
            }
            break;
        default:
            if (op.scaling.group == 32) lines.template operator()<Granularity::micro, 32>();
            if (op.scaling.group == 64) lines.template operator()<Granularity::micro, 64>();
            if (op.scaling.group == 128) lines.template operator()<Granularity::micro, 128>();
    }
    launched("block_quantise");
}

// Without elements there are still the scales of empty rows: those of zeros.
struct FillScales {
    float* scales;
    float scale;

    template <int N>
    __device__ void run(std::int64_t i) const {
#pragma unroll
        for (int k = 0; k < N; ++k) scales[i + k] = scale;
    }
};

void fill_scales(const BlockQuantise& op, std::span<const TensorRef> out) {
    const float scale = scale_rule(op)(0).scale;
    for (const TensorRef& y : out) {
        for_elements("block_quantise", scale_count(y.type), FillScales{y.scales(), scale});
    }
}

// Blocks lie within a tile.
bool needs_tops(const BlockQuantise& op) {
    return op.scaling.granularity == Granularity::row ||
           op.scaling.granularity == Granularity::micro;
}

// Values of rare dtypes go through memory as f32.
Prepared prepare_fused(const NodeView& node) {
    const auto op = std::get<BlockQuantise>(node.op);
    const Dtype given = node.in[0].dtype;
    const std::int64_t m = node.in[0].shape.rows(), n = source_columns(op.of, node.in[0]);
    const bool converts = given != Dtype::bf16 && given != Dtype::f32;
    ScratchCounter scratch;
    const std::int64_t tops_bytes =
        needs_tops(op) ? static_cast<std::int64_t>(quantised_results(op.of) * 4) * (m + n + 1) : 0;
    const std::int64_t tops_at = scratch.reserve(tops_bytes);
    const std::int64_t wide_at = converts ? scratch.reserve(m * n * 4) : 0;
    const auto run = [=](const KernelCall& call) {
        if (m == 0 || n == 0) return fill_scales(op, call.out);
        clear(call.scratch + tops_at, tops_bytes);
        auto* tops = reinterpret_cast<std::uint32_t*>(call.scratch + tops_at);
        const auto quantise = [&]<class To>() {
            const auto with = [&]<class T, class Source>(std::type_identity<T>,
                                                         const Source& source) {
                const auto sides = sides_of<Source::kResults>(op, call.out, tops);
                launch<To, T>(op, source, m, n, sides);
            };
            if (given == Dtype::bf16) {
                return with_source<bf16, To>(op.of, call.in, [&](const auto& source) {
                    with(std::type_identity<bf16>{}, source);
                });
            }
            const auto* x = call.in[0].as<float>();
            if (converts) {
                auto* const wide = reinterpret_cast<float*>(call.scratch + wide_at);
                convert(x, given, wide, Dtype::f32, m * n);
                x = wide;
            }
            with(std::type_identity<float>{}, ValueSource<float>{x});
        };
        op.to == Dtype::e4m3 ? quantise.template operator()<e4m3>()
                             : quantise.template operator()<e5m2>();
    };
    return {run, scratch.bytes()};
}

Refusal reject(const NodeView& node) { return reject_tall(node.in[0]); }

Prepared prepare(const NodeView& node) {
    const auto& op = std::get<BlockQuantise>(node.op);
    if (on_the_way(op, node.in[0].dtype)) return prepare_fused(node);
    BlockQuantise one = op;
    one.of = QuantiseSource::value;
    return prepare_in_parts(node, op.of, std::vector<Op>(quantised_results(op.of), one));
}

}  // namespace

void register_block_quantise(KernelRegistry& registry) {
    registry.add<BlockQuantise>({"runs", reject_block_quantise_rows, prepare_block_quantise_rows});
    registry.add<BlockQuantise>({"block_quantise", reject, prepare});
}

}  // namespace octavo::cuda
