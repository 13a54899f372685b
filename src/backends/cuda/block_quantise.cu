// One tile of 128 x 128 elements per block of threads: it holds whole 1x128 blocks and micro groups
// of the rows and of the columns, so both copies come from one read. Scales of whole rows or
// columns need their maxima first, which a pass of its own finds.
#include "base/block_scale.h"

#include "backends/cuda/convert.h"
#include "backends/cuda/quantise_source.cuh"
#include "backends/cuda/scaling.cuh"
#include "backends/cuda/transpose.cuh"
#include "backends/cuda/transpose.h"
#include "graph/rules.h"
#include "ops/delayed_quantise.h"

namespace octavo::cuda {
namespace {

constexpr int kTile = kByteTile;
constexpr int kPackets = kTile / kPacket;       // threads along a row of the tile
constexpr int kRowsAtOnce = kBlock / kPackets;  // 16
constexpr int kSteps = kTile / kRowsAtOnce;     // 8 rows a thread
static_assert(kTile == kScaleBlock);

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

struct Rule {
    float floor, max;
    ScaleRounding rounding;
    __device__ float scale(float amax) const { return block_scale(amax, max, floor, rounding); }
};

// What elements are multiplied by: (x * inverse) * inv_scale.
struct Factors {
    float inverse, inv_scale;
};

// A tile of one of the source's results; neighbouring blocks take the other results of the same
// tile, whose operands are in the cache then.
template <class T, class Source>
struct Tile {
    static constexpr int kResults = Source::kResults;

    std::int64_t m, n;
    bool packets;  // rows are whole, aligned packets
    int result = static_cast<int>(blockIdx.x) % kResults;
    std::int64_t across = blockIdx.x / kResults, down = blockIdx.y;  // in tiles
    std::int64_t row0 = down * kTile, column0 = across * kTile;
    float v[kSteps][kPacket];

    __device__ Tile(const Source& source, std::int64_t rows, std::int64_t columns,
                    bool whole_packets)
        : m(rows), n(columns), packets(whole_packets) {
        load(source);
    }

    __device__ static int packet() { return static_cast<int>(threadIdx.x) % kPackets; }
    __device__ static int row(int step) {
        return step * kRowsAtOnce + static_cast<int>(threadIdx.x) / kPackets;
    }
    // How many tiles there are across.
    __device__ static std::int64_t tiles() { return gridDim.x / kResults; }

    // Elements outside the matrix count as zeros. A tile that lies inside has no branches, so that
    // all of its loads are on their way at once.
    __device__ void load(const Source& source) {
        if (packets && row0 + kTile <= m && column0 + kTile <= n) {
#pragma unroll
            for (int s = 0; s < kSteps; ++s) {
                take<kPacket>(source, (row0 + row(s)) * n + column0 + packet() * kPacket, v[s]);
            }
        } else {
            load_edge(source);
        }
    }

    __device__ void load_edge(const Source& source) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
            const std::int64_t r = row0 + row(s), c = column0 + packet() * kPacket;
#pragma unroll
            for (float& e : v[s]) e = 0;
            if (r >= m || c >= n) continue;
            if (packets) {
                take<kPacket>(source, r * n + c, v[s]);
                continue;
            }
#pragma unroll
            for (int i = 0; i < kPacket; ++i) {
                if (c + i < n) {
                    take<1>(source, r * n + c + i, reinterpret_cast<float(&)[1]>(v[s][i]));
                }
            }
        }
    }

    template <int N>
    __device__ void take(const Source& source, std::int64_t at, float (&to)[N]) const {
        compute_t<T> values[kResults][N];
        source.get(at, values);
#pragma unroll
        for (int i = 0; i < N; ++i) {
            to[i] = kResults == 2 && result == 1 ? values[kResults - 1][i] : values[0][i];
        }
    }

    __device__ std::uint32_t row_magnitude(int step) const {
        std::uint32_t top = 0;
#pragma unroll
        for (float e : v[step]) top = max(top, magnitude_bits(e));
        return top;
    }
};

// Maximum over `kLanes` neighbouring lanes, for all of them.
template <int kLanes>
__device__ std::uint32_t lanes_max(std::uint32_t x) {
#pragma unroll
    for (int lane = kLanes / 2; lane > 0; lane /= 2) {
        x = max(x, __shfl_xor_sync(0xFFFFFFFF, x, lane));
    }
    return x;
}

// tops[group][column] = the maxima down groups of kGroup rows; all threads call it.
template <int kGroup, class T, class Source>
__device__ void column_tops(const Tile<T, Source>& tile,
                            std::uint32_t (&tops)[kTile / kGroup][kTile]) {
    constexpr int kGroups = kTile / kGroup, kStepsOfGroup = kSteps / kGroups;
    for (int i = static_cast<int>(threadIdx.x); i < kGroups * kTile; i += kBlock) {
        tops[i / kTile][i % kTile] = 0;
    }
    __syncthreads();
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
        for (int i = 0; i < kPacket; ++i) {
            std::uint32_t top = 0;
#pragma unroll
            for (int s = 0; s < kStepsOfGroup; ++s) {
                top = max(top, magnitude_bits(tile.v[g * kStepsOfGroup + s][i]));
            }
            top = max(top, __shfl_xor_sync(0xFFFFFFFF, top, kPackets));
            if (threadIdx.x % kWarp < kPackets)
                atomicMax(&tops[g][tile.packet() * kPacket + i], top);
        }
    }
    __syncthreads();
}

// ---- Maxima of whole rows and columns ----------------------------------------------------------

__device__ inline void raise(std::uint32_t* top, std::uint32_t magnitude) {
    if (__ldcg(top) < magnitude) atomicMax(top, magnitude);
}

template <class T, class Source>
__global__ void __launch_bounds__(kBlock, 2)
    tops_kernel(Source source, std::int64_t m, std::int64_t n, bool packets,
                Sides<Source::kResults> sides) {
    const Tile<T, Source> tile(source, m, n, packets);
    const Side &rows = sides.rows[tile.result], &columns = sides.columns[tile.result];
    if (rows.codes) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
            const std::uint32_t top = lanes_max<kPackets>(tile.row_magnitude(s));
            const std::int64_t r = tile.row0 + tile.row(s);
            if (tile.packet() == 0 && r < m) raise(rows.tops + r * rows.top_step, top);
        }
    }
    if (!columns.codes) return;
    __shared__ std::uint32_t tops[1][kTile];
    column_tops<kTile>(tile, tops);
    const std::int64_t c = tile.column0 + threadIdx.x;
    if (threadIdx.x < kTile && c < n)
        raise(columns.tops + c * columns.top_step, tops[0][threadIdx.x]);
}

// ---- Scales and codes --------------------------------------------------------------------------

// The factors of one group of one row (or column) from its amax, and its scale and exponent where
// they belong; `line` counts rows (columns), `block` the 128-blocks along it. Only `writer` writes.
template <Granularity kGranularity, int kGroup>
__device__ Factors factors_of(const Side& side, const Rule& rule, std::uint32_t top,
                              std::int64_t line, std::int64_t lines, std::int64_t block, int group,
                              bool empty, bool writer) {
    const bool inside = line < lines;
    if constexpr (kGranularity == Granularity::block_1x128) {
        const float scale = rule.scale(__uint_as_float(top));
        if (writer && line < side.pitch)
            side.scales[block * side.pitch + line] = inside ? scale : 0;
        return {1.0f, 1.0f / scale};
    } else {
        const float whole = inside ? __uint_as_float(side.tops[line * side.top_step]) : 0.0f;
        const float scale = rule.scale(whole);
        if (writer && inside && block == 0 && group == 0) side.scales[line] = scale;
        int exponent = unit_exponent();
        if constexpr (kGranularity == Granularity::micro) {
            if (inside && !empty && is_finite_amax(whole)) {
                exponent = group_exponent(__uint_as_float(top), whole, rule.floor);
            }
            if (writer) {
                side.groups[block * side.group_pitch + line * (kTile / kGroup) + group] =
                    static_cast<std::uint8_t>(exponent);
            }
        }
        return {group_inverse(exponent), 1.0f / scale};
    }
}

template <class To>
__device__ uint2 encode(const float (&v)[kPacket], const Factors& f) {
    float scaled[kPacket];
#pragma unroll
    for (int i = 0; i < kPacket; ++i) scaled[i] = (v[i] * f.inverse) * f.inv_scale;
    return encode_packet<To>(scaled);
}

template <class Tile>
__device__ void write_codes(const Tile& tile, std::uint8_t* y, int step, uint2 codes) {
    const std::int64_t r = tile.row0 + tile.row(step), c = tile.column0 + tile.packet() * kPacket;
    if (r >= tile.m) return;
    std::uint8_t* const to = y + r * tile.n + c;
    if (tile.packets) {
        if (c < tile.n) *reinterpret_cast<uint2*>(to) = codes;
        return;
    }
#pragma unroll
    for (int i = 0; i < kPacket; ++i) {
        const std::uint32_t word = i < 4 ? codes.x : codes.y;
        if (c + i < tile.n) to[i] = static_cast<std::uint8_t>(word >> (i % 4 * 8));
    }
}

template <class Tile>
__device__ void put_codes(const Tile& tile, ByteTile& bytes, int step, uint2 codes) {
    bytes.words[tile.row(step)][tile.packet() * 2] = codes.x;
    bytes.words[tile.row(step)][tile.packet() * 2 + 1] = codes.y;
}

template <class Tile>
__device__ void write_transposed(const Tile& tile, const ByteTile& bytes, std::uint8_t* y) {
    if (tile.m % 16 == 0 && tile.n % 16 == 0) {
        store_transposed(bytes, y, tile.m, tile.n, tile.row0, tile.column0);
        return;
    }
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile; i += kBlock) {
        const int column = i / kTile, row = i % kTile;
        if (tile.row0 + row >= tile.m || tile.column0 + column >= tile.n) continue;
        y[(tile.column0 + column) * tile.m + tile.row0 + row] =
            static_cast<std::uint8_t>(bytes.words[row][column / 4] >> (column % 4 * 8));
    }
}

template <class To, Granularity kGranularity, int kGroup, class T, class Source>
__global__ void __launch_bounds__(kBlock, 2)
    lines_kernel(Source source, std::int64_t m, std::int64_t n, bool packets,
                 Sides<Source::kResults> sides, Rule rule) {
    constexpr int kGroups = kTile / kGroup, kStepsOfGroup = kSteps / kGroups;
    constexpr int kLanes = kGroup / kPacket;
    const Tile<T, Source> tile(source, m, n, packets);
    const Side &rows = sides.rows[tile.result], &columns = sides.columns[tile.result];
    if (rows.codes) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
            const std::uint32_t top = lanes_max<kLanes>(tile.row_magnitude(s));
            const int group = tile.packet() / kLanes;
            const Factors f = factors_of<kGranularity, kGroup>(
                rows, rule, top, tile.row0 + tile.row(s), m, tile.across, group,
                tile.column0 + group * kGroup >= n, tile.packet() % kLanes == 0);
            write_codes(tile, rows.codes, s, encode<To>(tile.v[s], f));
        }
    }
    if (!columns.codes) return;
    __shared__ ByteTile bytes;
    __shared__ std::uint32_t tops[kGroups][kTile];
    __shared__ Factors factors[kGroups][kTile];
    column_tops<kGroup>(tile, tops);
    for (int i = static_cast<int>(threadIdx.x); i < kGroups * kTile; i += kBlock) {
        const int group = i / kTile, column = i % kTile;
        factors[group][column] = factors_of<kGranularity, kGroup>(
            columns, rule, tops[group][column], tile.column0 + column, n, tile.down, group,
            tile.row0 + group * kGroup >= m, true);
    }
    __syncthreads();
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
        Factors f[kPacket];
#pragma unroll
        for (int i = 0; i < kPacket; ++i) f[i] = factors[g][tile.packet() * kPacket + i];
#pragma unroll
        for (int s = g * kStepsOfGroup; s < (g + 1) * kStepsOfGroup; ++s) {
            float scaled[kPacket];
#pragma unroll
            for (int i = 0; i < kPacket; ++i) {
                scaled[i] = (tile.v[s][i] * f[i].inverse) * f[i].inv_scale;
            }
            put_codes(tile, bytes, s, encode_packet<To>(scaled));
        }
    }
    __syncthreads();
    write_transposed(tile, bytes, columns.codes);
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
__global__ void __launch_bounds__(kBlock, 2)
    squares_kernel(Source source, std::int64_t m, std::int64_t n, bool packets,
                   Sides<Source::kResults> sides, Rule rule) {
    __shared__ ByteTile bytes;
    __shared__ std::uint32_t shared_top;
    if (threadIdx.x == 0) shared_top = 0;
    const Tile<T, Source> tile(source, m, n, packets);
    const Side &rows = sides.rows[tile.result], &columns = sides.columns[tile.result];
    std::uint32_t top = 0;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) top = max(top, tile.row_magnitude(s));
    top = warp_max(top);
    __syncthreads();
    if (threadIdx.x % kWarp == 0) atomicMax(&shared_top, top);
    __syncthreads();
    const float scale = rule.scale(__uint_as_float(shared_top));
    const Factors f{1.0f, 1.0f / scale};
    if (threadIdx.x == 0) {
        if (rows.codes) write_block_scale(rows, tile.down, tile.across, tile.tiles(), scale);
        if (columns.codes) write_block_scale(columns, tile.across, tile.down, gridDim.y, scale);
    }
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
        const uint2 codes = encode<To>(tile.v[s], f);
        if (rows.codes) write_codes(tile, rows.codes, s, codes);
        if (columns.codes) put_codes(tile, bytes, s, codes);
    }
    if (!columns.codes) return;
    __syncthreads();
    write_transposed(tile, bytes, columns.codes);
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

template <class To, class T, class Source>
void launch(const BlockQuantise& op, const Source& source, std::int64_t m, std::int64_t n,
            const Sides<Source::kResults>& sides) {
    const dim3 tiles(static_cast<unsigned>(ceil_div(n, kTile) * Source::kResults),
                     static_cast<unsigned>(ceil_div(m, kTile)));
    const bool packets = n % kPacket == 0;
    const Rule rule{op.floor, max_value(op.to), op.rounding};
    const auto lines = [&]<Granularity kGranularity, int kGroup>() {
        if (kGranularity != Granularity::block_1x128) {
            tops_kernel<T><<<tiles, kBlock, 0, stream()>>>(source, m, n, packets, sides);
        }
        lines_kernel<To, kGranularity, kGroup, T>
            <<<tiles, kBlock, 0, stream()>>>(source, m, n, packets, sides, rule);
    };
    switch (op.scaling.granularity) {
        case Granularity::block_1x128:
            lines.template operator()<Granularity::block_1x128, 128>();
            break;
        case Granularity::block_128x128:
            squares_kernel<To, T>
                <<<tiles, kBlock, 0, stream()>>>(source, m, n, packets, sides, rule);
            break;
        case Granularity::row:
            lines.template operator()<Granularity::row, 128>();
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
    const float scale = block_scale(0, max_value(op.to), op.floor, op.rounding);
    for (const TensorRef& y : out) {
        for_elements("block_quantise", scale_count(y.type), FillScales{y.scales(), scale});
    }
}

// Fused are the sources of a training step, in bf16. Other dtypes and sources go through memory:
// the rare dtypes as f32, the rare sources as they are.
bool fuses(const BlockQuantise& op, Dtype dtype) {
    return op.of == QuantiseSource::value || dtype == Dtype::bf16;
}

// Blocks lie within a tile.
bool needs_tops(const BlockQuantise& op) {
    return op.scaling.granularity == Granularity::row ||
           op.scaling.granularity == Granularity::micro;
}

Prepared prepare_fused(const NodeView& node) {
    const auto op = std::get<BlockQuantise>(node.op);
    const Dtype given = node.in[0].dtype;
    const std::int64_t m = node.in[0].shape.rows(), n = node.in[0].shape.last();
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
        const auto with = [&]<class T>(const auto& source) {
            using Source = std::remove_cvref_t<decltype(source)>;
            const auto sides = sides_of<Source::kResults>(op, call.out, tops);
            if (op.to == Dtype::e4m3) return launch<e4m3, T>(op, source, m, n, sides);
            return launch<e5m2, T>(op, source, m, n, sides);
        };
        if (given == Dtype::bf16) {
            return with_source<bf16>(op.of, call.in, [&](const auto& source) {
                with.template operator()<bf16>(source);
            });
        }
        const auto* x = call.in[0].as<float>();
        if (converts) {
            auto* const wide = reinterpret_cast<float*>(call.scratch + wide_at);
            convert(x, given, wide, Dtype::f32, m * n);
            x = wide;
        }
        with.template operator()<float>(ValueSource<float>{x});
    };
    return {run, scratch.bytes()};
}

// The source's results in scratch, and each quantised as a value.
Prepared prepare_in_parts(const NodeView& node) {
    const auto op = std::get<BlockQuantise>(node.op);
    BlockQuantise one = op;
    one.of = QuantiseSource::value;
    const Op source = *source_op(op.of);
    const Types values = rules_of(source).type(source, Operands(op_name(source), node.in));
    ScratchCounter scratch;
    std::vector<std::int64_t> at;
    for (const Type& t : values) at.push_back(scratch.reserve(total_bytes(t)));
    const Prepared first = prepare_op(kernel_registry(), source, node.in);
    const Prepared rest = prepare_op(kernel_registry(), one, std::span(values).first(1));
    const std::int64_t scratch_at =
        scratch.reserve(std::max(first.scratch_bytes, rest.scratch_bytes));
    const auto run = [=](const KernelCall& call) {
        std::vector<TensorRef> results;
        for (std::size_t k = 0; k < values.size(); ++k) {
            results.push_back(tensor_at(values[k], call.scratch + at[k]));
        }
        first.run({call.in, results, call.scratch + scratch_at});
        const std::size_t copies = call.out.size() / results.size();
        for (std::size_t k = 0; k < results.size(); ++k) {
            rest.run({std::span(results).subspan(k, 1), call.out.subspan(k * copies, copies),
                      call.scratch + scratch_at});
        }
    };
    return {run, scratch.bytes()};
}

Refusal reject(const NodeView& node) { return reject_tall(node.in[0]); }

Prepared prepare(const NodeView& node) {
    const auto& op = std::get<BlockQuantise>(node.op);
    return fuses(op, node.in[0].dtype) ? prepare_fused(node) : prepare_in_parts(node);
}

}  // namespace

void register_block_quantise(KernelRegistry& registry) {
    registry.add<BlockQuantise>({"block_quantise", reject, prepare});
}

}  // namespace octavo::cuda
