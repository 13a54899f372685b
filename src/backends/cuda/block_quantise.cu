// One tile of 128 x 128 elements per block of threads: it holds whole 1x128 blocks and micro groups
// of the rows and of the columns, so both copies come from one read. Scales of whole rows or
// columns need their maxima first, which a pass of its own finds.
#include "base/block_scale.h"

#include "backends/cuda/convert.h"
#include "backends/cuda/scaling.cuh"
#include "backends/cuda/transpose.cuh"

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

struct Rule {
    float floor, max;
    ScaleRounding rounding;
    __device__ float scale(float amax) const { return block_scale(amax, max, floor, rounding); }
};

// What elements are multiplied by: (x * inverse) * inv_scale.
struct Factors {
    float inverse, inv_scale;
};

template <class T>
struct Tile {
    const T* x;
    std::int64_t m, n, row0, column0;
    bool packets;  // rows are whole, aligned packets
    float v[kSteps][kPacket];

    __device__ static int packet() { return static_cast<int>(threadIdx.x) % kPackets; }
    __device__ static int row(int step) {
        return step * kRowsAtOnce + static_cast<int>(threadIdx.x) / kPackets;
    }

    // Elements outside the matrix count as zeros.
    __device__ void load() {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
            const std::int64_t r = row0 + row(s), c = column0 + packet() * kPacket;
            if (packets) {
                if (r < m && c < n) {
                    octavo::cuda::load<kPacket>(x + r * n + c, v[s]);
                } else {
#pragma unroll
                    for (float& e : v[s]) e = 0;
                }
            } else {
#pragma unroll
                for (int i = 0; i < kPacket; ++i) {
                    v[s][i] = r < m && c + i < n ? widen(x[r * n + c + i]) : 0.0f;
                }
            }
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
template <int kGroup, class T>
__device__ void column_tops(const Tile<T>& tile, std::uint32_t (&tops)[kTile / kGroup][kTile]) {
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

template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    tops_kernel(const T* x, std::int64_t m, std::int64_t n, bool packets, Side rows, Side columns) {
    Tile<T> tile{x,      m, n, std::int64_t{blockIdx.y} * kTile, std::int64_t{blockIdx.x} * kTile,
                 packets};
    tile.load();
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

template <class T>
__device__ void write_codes(const Tile<T>& tile, std::uint8_t* y, int step, uint2 codes) {
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

template <class T>
__device__ void put_codes(const Tile<T>& tile, ByteTile& bytes, int step, uint2 codes) {
    bytes.words[tile.row(step)][tile.packet() * 2] = codes.x;
    bytes.words[tile.row(step)][tile.packet() * 2 + 1] = codes.y;
}

template <class T>
__device__ void write_transposed(const Tile<T>& tile, const ByteTile& bytes, std::uint8_t* y) {
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

template <class To, Granularity kGranularity, int kGroup, class T>
__global__ void __launch_bounds__(kBlock, 2)
    lines_kernel(const T* x, std::int64_t m, std::int64_t n, bool packets, Side rows, Side columns,
                 Rule rule) {
    constexpr int kGroups = kTile / kGroup, kStepsOfGroup = kSteps / kGroups;
    constexpr int kLanes = kGroup / kPacket;
    Tile<T> tile{x,      m, n, std::int64_t{blockIdx.y} * kTile, std::int64_t{blockIdx.x} * kTile,
                 packets};
    tile.load();
    if (rows.codes) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
            const std::uint32_t top = lanes_max<kLanes>(tile.row_magnitude(s));
            const int group = tile.packet() / kLanes;
            const Factors f = factors_of<kGranularity, kGroup>(
                rows, rule, top, tile.row0 + tile.row(s), m, blockIdx.x, group,
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
            columns, rule, tops[group][column], tile.column0 + column, n, blockIdx.y, group,
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

template <class To, class T>
__global__ void __launch_bounds__(kBlock, 2)
    squares_kernel(const T* x, std::int64_t m, std::int64_t n, bool packets, Side rows,
                   Side columns, Rule rule) {
    Tile<T> tile{x,      m, n, std::int64_t{blockIdx.y} * kTile, std::int64_t{blockIdx.x} * kTile,
                 packets};
    __shared__ ByteTile bytes;
    __shared__ std::uint32_t shared_top;
    if (threadIdx.x == 0) shared_top = 0;
    tile.load();
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
        if (rows.codes) write_block_scale(rows, blockIdx.y, blockIdx.x, gridDim.x, scale);
        if (columns.codes) write_block_scale(columns, blockIdx.x, blockIdx.y, gridDim.y, scale);
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

// A matrix to be quantised, the copies wanted, and room for the maxima of its rows and columns.
struct Job {
    BlockQuantise op;
    const void* x;
    Dtype dtype;
    std::int64_t m, n;
    Side rows, columns;
};

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

template <class To, class T>
void launch(const Job& job) {
    const dim3 tiles(static_cast<unsigned>(ceil_div(job.n, kTile)),
                     static_cast<unsigned>(ceil_div(job.m, kTile)));
    const auto* x = static_cast<const T*>(job.x);
    const bool packets = job.n % kPacket == 0;
    const Rule rule{job.op.floor, max_value(job.op.to), job.op.rounding};
    const auto lines = [&]<Granularity kGranularity, int kGroup>() {
        lines_kernel<To, kGranularity, kGroup>
            <<<tiles, kBlock, 0, stream()>>>(x, job.m, job.n, packets, job.rows, job.columns, rule);
    };
    const auto find_tops = [&] {
        tops_kernel<<<tiles, kBlock, 0, stream()>>>(x, job.m, job.n, packets, job.rows,
                                                    job.columns);
    };
    switch (job.op.scaling.granularity) {
        case Granularity::block_1x128:
            lines.template operator()<Granularity::block_1x128, 128>();
            break;
        case Granularity::block_128x128:
            squares_kernel<To><<<tiles, kBlock, 0, stream()>>>(x, job.m, job.n, packets, job.rows,
                                                               job.columns, rule);
            break;
        case Granularity::row:
            find_tops();
            lines.template operator()<Granularity::row, 128>();
            break;
        default:
            find_tops();
            switch (job.op.scaling.group) {
                case 32:
                    lines.template operator()<Granularity::micro, 32>();
                    break;
                case 64:
                    lines.template operator()<Granularity::micro, 64>();
                    break;
                default:
                    lines.template operator()<Granularity::micro, 128>();
            }
    }
    launched("block_quantise");
}

void launch(const Job& job) {
    const auto with = [&]<class T>() {
        if (job.op.to == Dtype::e4m3) return launch<e4m3, T>(job);
        return launch<e5m2, T>(job);
    };
    if (job.dtype == Dtype::bf16) return with.template operator()<bf16>();
    return with.template operator()<float>();
}

Prepared prepare(const NodeView& node) {
    const auto op = std::get<BlockQuantise>(node.op);
    const Type& x = node.in[0];
    const std::int64_t m = x.shape.rows(), n = x.shape.last();
    // The rare dtypes travel through f32.
    const bool converts = x.dtype != Dtype::bf16 && x.dtype != Dtype::f32;
    ScratchCounter scratch;
    const std::int64_t tops_bytes = (m + n) * static_cast<std::int64_t>(sizeof(std::uint32_t));
    const std::int64_t tops_at = scratch.reserve(tops_bytes);
    const std::int64_t wide_at = converts ? scratch.reserve(m * n * 4) : 0;
    const auto run = [=](const KernelCall& call) {
        if (m == 0 || n == 0) return;
        const TensorRef& values = call.in[0];
        clear(call.scratch + tops_at, tops_bytes);
        auto* tops = reinterpret_cast<std::uint32_t*>(call.scratch + tops_at);
        Job job{op, values.data, values.type.dtype, m, n, {}, {}};
        if (converts) {
            convert(values.data, values.type.dtype, call.scratch + wide_at, Dtype::f32, m * n);
            job.x = call.scratch + wide_at;
            job.dtype = Dtype::f32;
        }
        if (op.copies != Copies::columns) job.rows = side_of(call.out[0], op.global, tops);
        if (op.copies != Copies::rows) job.columns = side_of(call.out.back(), op.global, tops);
        launch(job);
    };
    return {run, scratch.bytes()};
}

}  // namespace

void register_block_quantise(KernelRegistry& registry) {
    registry.add<BlockQuantise>({"block_quantise", takes_all, prepare});
}

}  // namespace octavo::cuda
