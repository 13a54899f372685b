// The kernel of moss_gemm.h: FP8 wgmma, promoted to FP32 group by group (arXiv 2511.05811 for the
// scales, arXiv 2412.19437, 3.5.2, for why the sums may not stay in the tensor cores).
//
// A block stays on its multiprocessor and takes one output tile after the other. One thread brings
// operands and E8M0 bytes into a ring of stages; warpgroups of 64 rows multiply a group into fresh
// registers and add them, times the group's factor, to the sums. The promotion of one warpgroup
// runs under the products of another.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "backends/cuda/grouped_tiles.h"
#include "backends/cuda/pipeline.cuh"
#include "backends/cuda/ptx.cuh"
#include "backends/cuda/wgmma.cuh"

namespace octavo::cuda::moss {

inline constexpr int kTileN = 128;      // of wgmma and of the block
inline constexpr int kStageK = 128;     // bytes in a row of the 128-byte swizzle
inline constexpr int kGroupRows = 128;  // what the rows of E8M0 bytes are padded to
inline constexpr int kDecoders = 96;    // threads that unpack the bytes of b

struct Params {
    CUtensorMap a, b, out;
    const std::uint8_t *a_groups, *b_groups;
    const float *a_scale, *b_scale;
    const void* acc;
    void* out_data;
    int m, n, k;
    bool out_f32;
    bool acc_pairs;    // acc can be read two elements at a time
    bool store_boxes;  // the pitch of out allows bulk stores
    bool add_boxes;    // acc is out, in FP32: the L2 adds (and flushes subnormals)
};

struct Shape {
    int warpgroups;  // 64 rows each
    int sets;        // 2: a warpgroup promotes a group while its next one is multiplied
    int cluster;     // blocks one below the other, which share b
    int stages;
};

template <int kGroup_, bool kColumnGroups_, ptx::Types kTypes_, Shape kShape>
struct Config {
    static constexpr int kGroup = kGroup_, kSets = kShape.sets;
    static constexpr int kCluster = kShape.cluster, kStages = kShape.stages;
    static constexpr bool kColumnGroups = kColumnGroups_;  // b has bytes of its own
    static constexpr ptx::Types kTypes = kTypes_;
    static constexpr int kM = 64 * kShape.warpgroups;
    static constexpr int kGroups = kStageK / kGroup;  // of a stage
    static_assert(kGroups * kGroup == kStageK && kGroup % 32 == 0 && kGroups % kSets == 0);

    static constexpr int kConsumers = 128 * kShape.warpgroups, kThreads = kConsumers + 128;
    // Shares of 64 Ki registers: sums and products take 64 (1 + sets) of a consumer's.
    static constexpr int kConsumerRegisters = kShape.warpgroups == 2 ? 232 : 160;
    static constexpr int kProducerRegisters = kShape.warpgroups == 2 ? 40 : 32;

    // Shared memory. Operand tiles in the swizzle come first: they start at multiples of 1024.
    static constexpr int kABytes = kM * kStageK, kBBytes = kTileN * kStageK;
    static constexpr int kA = 0;
    static constexpr int kB = kA + kStages * kABytes;
    static constexpr int kStaging = kB + kStages * kBBytes;  // two boxes per warpgroup
    static constexpr int kAGroups = kStaging + 2 * kShape.warpgroups * kBoxBytes;
    static constexpr int kBGroups = kAGroups + kStages * kM * kGroups;
    static constexpr int kFactors = kBGroups + (kColumnGroups ? kStages * kTileN * kGroups : 0);
    static constexpr int kScales = kFactors + (kColumnGroups ? kStages * kTileN * kGroups * 4 : 0);
    static constexpr int kBarriers = kScales + kShape.warpgroups * (64 + kTileN) * 4;
    static constexpr int kBytes = kBarriers + 3 * kStages * 8;
    static_assert(kBytes <= 232448);
};

template <class C>
struct Shared {
    std::uint32_t base;  // the address of
    char* data;

    // A stage's operands and bytes are there; may be overwritten; b's factors are there.
    __device__ std::uint32_t full(int s) const { return base + C::kBarriers + s * 8; }
    __device__ std::uint32_t empty(int s) const { return full(C::kStages + s); }
    __device__ std::uint32_t decoded(int s) const { return full(2 * C::kStages + s); }

    __device__ std::uint32_t a(int s) const { return base + C::kA + s * C::kABytes; }
    __device__ std::uint32_t b(int s) const { return base + C::kB + s * C::kBBytes; }
    __device__ int a_groups(int s) const { return C::kAGroups + s * C::kM * C::kGroups; }
    __device__ int b_groups(int s) const { return C::kBGroups + s * kTileN * C::kGroups; }
    __device__ float* factors(int s) const {  // (groups, kTileN), columns as factor_place() says
        return reinterpret_cast<float*>(data + C::kFactors) + s * kTileN * C::kGroups;
    }
    // 64 of rows, then kTileN of columns or one of a weight.
    __device__ int scales(int warpgroup) const {
        return C::kScales + warpgroup * (64 + kTileN) * 4;
    }
};

// Tiles of a whole cluster, in bands some 2048 rows high.
template <class C>
struct Tiles {
    static constexpr int kHeight = C::kM * C::kCluster, kBand = 2048 / kHeight;
    int rows, columns;

    __device__ explicit Tiles(const Params& p)
        : rows((p.m + kHeight - 1) / kHeight), columns((p.n + kTileN - 1) / kTileN) {}

    // f(m, n) for the corner of each of this block's tiles.
    template <class F>
    __device__ void for_each(int rank, F f) const {
        const int step = static_cast<int>(gridDim.x) / C::kCluster;
        for (int t = static_cast<int>(blockIdx.x) / C::kCluster; t < rows * columns; t += step) {
            const TilePlace at = banded(t, rows, columns, kBand);
            f(at.row * kHeight + rank * C::kM, at.column * kTileN);
        }
    }
};

__device__ inline int stage_count(const Params& p) { return (p.k + kStageK - 1) / kStageK; }

// The bytes of one row and stage.
template <int kGroups>
using Bytes = std::conditional_t<kGroups == 4, std::uint32_t,
                                 std::conditional_t<kGroups == 2, std::uint16_t, std::uint8_t>>;

// 2^(byte - 127), and 0 for byte 0.
template <class W>
__device__ inline float factor(W bytes, int group) {
    return __uint_as_float(((std::uint32_t{bytes} >> (8 * group)) & 0xFFu) << 23);
}

// A product of factors below 2^-126 is 0.
__device__ inline float mul_ftz(float a, float b) {
    float c;
    asm("mul.rn.ftz.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
}

// ---- Producer: one thread ----------------------------------------------------------------------

template <class C>
__device__ void produce(const Params& p, const Shared<C>& shared, int rank) {
    constexpr int kPart = kTileN / C::kCluster;  // rows of b that this block brings for the cluster
    const int a_rows = (p.m + kGroupRows - 1) / kGroupRows * kGroupRows;
    const int b_rows = (p.n + kGroupRows - 1) / kGroupRows * kGroupRows;
    Ring<C::kStages> ring;
    Tiles<C>(p).for_each(rank, [&](int m, int n) {
        // Rows past the end of a: the bulk copy of bytes does not know where to stop.
        const int a_bytes = max(0, min(C::kM, a_rows - m)) * C::kGroups;
        constexpr int kBGroupBytes = C::kColumnGroups ? kTileN * C::kGroups : 0;
        for (int i = 0; i < stage_count(p); ++i, ring.next()) {
            const int s = ring.stage;
            const std::uint32_t full = shared.full(s);
            wait(shared.empty(s), ring.parity ^ 1);
            ptx::mbarrier_arrive_expect_tx(full, C::kABytes + C::kBBytes + a_bytes + kBGroupBytes);
            ptx::cp_async_bulk_tensor_2d(shared.a(s), &p.a, i * kStageK, m, full);
            if constexpr (C::kCluster == 1) {
                ptx::cp_async_bulk_tensor_2d(shared.b(s), &p.b, i * kStageK, n, full);
            } else {
                ptx::cp_async_bulk_tensor_2d_multicast(shared.b(s) + rank * kPart * kStageK, &p.b,
                                                       i * kStageK, n + rank * kPart, full,
                                                       (1 << C::kCluster) - 1);
            }
            if (a_bytes) {
                ptx::cp_async_bulk(shared.base + shared.a_groups(s),
                                   p.a_groups + (std::int64_t{i} * a_rows + m) * C::kGroups,
                                   a_bytes, full);
            }
            if constexpr (C::kColumnGroups) {
                ptx::cp_async_bulk(shared.base + shared.b_groups(s),
                                   p.b_groups + (std::int64_t{i} * b_rows + n) * C::kGroups,
                                   kBGroupBytes, full);
            }
        }
    });
}

// ---- Decoders: three warps that make factors of the bytes of b ---------------------------------

// A consumer's lane reads columns {0, 1, 8, 9} + 2 (lane % 4) of 16 neighbours at once.
__device__ inline int factor_place(int column) {
    return (column & ~15) | (column & 6) << 1 | (column & 8) >> 2 | (column & 1);
}

template <class C>
__device__ void decode(const Params& p, const Shared<C>& shared, int rank, int thread) {
    Ring<C::kStages> ring;
    Tiles<C>(p).for_each(rank, [&](int, int) {
        for (int i = 0; i < stage_count(p); ++i, ring.next()) {
            const int s = ring.stage;
            wait(shared.empty(s), ring.parity ^ 1);  // the factors of a round before
            wait(shared.full(s), ring.parity);
            const auto* bytes =
                reinterpret_cast<const Bytes<C::kGroups>*>(shared.data + shared.b_groups(s));
#pragma unroll
            for (int c = thread; c < kTileN; c += kDecoders) {
#pragma unroll
                for (int g = 0; g < C::kGroups; ++g) {
                    shared.factors(s)[g * kTileN + factor_place(c)] = factor(bytes[c], g);
                }
            }
            ptx::mbarrier_arrive(shared.decoded(s));
            ptx::mbarrier_arrive(shared.empty(s));  // the bytes
        }
    });
}

// ---- Consumers: warpgroups of 64 rows ----------------------------------------------------------

template <class C>
struct Consumer {
    // Registers as wgmma.cuh lays them out: a lane has two rows, eight apart, and of every eight
    // columns two neighbours.
    static constexpr int kSums = 64 * kTileN / 128;
    using Word = Bytes<C::kGroups>;

    const Params& p;
    const Shared<C>& shared;
    int rank;                  // of the block in its cluster
    int warpgroup, lane, row;  // the upper one of 64
    std::uint64_t a, b;        // descriptors for stage 0
    float sum[kSums];
    float part[C::kSets][kSums];  // P of a group

    __device__ Consumer(const Params& params, const Shared<C>& memory, int block)
        : p(params),
          shared(memory),
          rank(block),
          // Shuffled: the compiler then knows that it is the same in all lanes.
          warpgroup(__shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128, 0)),
          lane(static_cast<int>(threadIdx.x) % 32),
          row(static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4),
          a(ptx::wgmma_descriptor(shared.a(0) + warpgroup * 64 * kStageK)),
          b(ptx::wgmma_descriptor(shared.b(0))) {}

    template <int kIndex>
    __device__ void multiply(int s) {
        constexpr int kAt = kIndex * C::kGroup >> 4;
        ptx::wgmma_fence();
#pragma unroll
        for (int k = 0; k < C::kGroup / 32; ++k) {
            ptx::wgmma_m64n128k32<C::kTypes>(part[kIndex % C::kSets],
                                             a + s * (C::kABytes >> 4) + kAt + 2 * k,
                                             b + s * (C::kBBytes >> 4) + kAt + 2 * k, k > 0);
        }
        ptx::wgmma_commit_group();
    }

    // Until a group is multiplied, and all but the kPending later ones. The empty statements keep
    // the compiler from promoting it before and from putting earlier promotions off.
    template <int kIndex, int kPending>
    __device__ void wait_for() {
#pragma unroll
        for (int i = 0; i < kSums; ++i) asm volatile("" : "+f"(sum[i])::"memory");
        ptx::wgmma_wait_group<kPending>();
#pragma unroll
        for (int i = 0; i < kSums; ++i) {
            asm volatile("" : "+f"(part[kIndex % C::kSets][i])::"memory");
        }
    }

    template <int kIndex>
    __device__ void promote(int s, Word upper, Word lower) {
        const float f0 = factor(upper, kIndex), f1 = factor(lower, kIndex);
        const float* x = part[kIndex % C::kSets];
        if constexpr (C::kColumnGroups) {
            const auto* factors = reinterpret_cast<const float4*>(shared.factors(s)) +
                                  (kIndex * kTileN) / 4 + lane % 4;
#pragma unroll
            for (int i = 0; i < kSums; i += 8) {
                const float4 f = factors[i / 2];
                const float columns[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
                for (int j = i; j < i + 8; ++j) {
                    const float c = columns[j / 4 % 2 * 2 + j % 2];
                    sum[j] = __fmaf_rn(mul_ftz(j & 2 ? f1 : f0, c), x[j], sum[j]);
                }
            }
        } else {
#pragma unroll
            for (int i = 0; i < kSums; ++i) sum[i] = __fmaf_rn(i & 2 ? f1 : f0, x[i], sum[i]);
        }
    }

    __device__ Word bytes(int s, int r) const {
        return reinterpret_cast<const Word*>(shared.data + shared.a_groups(s))[warpgroup * 64 + r];
    }

    // Each reader hands the stage back itself, as racecheck wants to see it; it costs nothing that
    // can be measured. Other blocks of the cluster write to it, too: to them one lane hands back
    // what its warp has read.
    __device__ void release(int s) const {
        ptx::mbarrier_arrive(shared.empty(s));
        if constexpr (C::kCluster > 1) {
            __syncwarp();
            if (lane < C::kCluster && lane != rank) {
                ptx::mbarrier_arrive_cluster(shared.empty(s), lane);
            }
        }
    }

    template <int kIndex>
    __device__ void finish_group(int s, Word upper, Word lower) {
        constexpr bool kLast = kIndex + 1 == C::kGroups;
        wait_for<kIndex, (C::kSets == 2 && !kLast) ? 1 : 0>();
        if constexpr (kLast && !C::kColumnGroups) release(s);
        promote<kIndex>(s, upper, lower);
        if constexpr (kLast && C::kColumnGroups) release(s);
    }

    // No product may be on its way from one stage to the next: ptxas does not follow them around a
    // loop, and would wait for each one (C7514).
    template <int kIndex = 0>
    __device__ void stage(int s, Word upper, Word lower) {
        if constexpr (C::kSets == 1 || kIndex == 0) multiply<kIndex>(s);
        if constexpr (C::kSets == 2 && kIndex + 1 < C::kGroups) multiply<kIndex + 1>(s);
        finish_group<kIndex>(s, upper, lower);
        if constexpr (kIndex + 1 < C::kGroups) stage<kIndex + 1>(s, upper, lower);
    }

    __device__ void main_loop(Ring<C::kStages>& ring) {
#pragma unroll
        for (int i = 0; i < kSums; ++i) sum[i] = 0;
        for (int i = 0; i < stage_count(p); ++i, ring.next()) {
            const int s = ring.stage;
            wait(shared.full(s), ring.parity);
            const Word upper = bytes(s, row), lower = bytes(s, row + 8);
            if constexpr (C::kColumnGroups) wait(shared.decoded(s), ring.parity);
            stage(s, upper, lower);
        }
    }

    // ---- Epilogue: y = (sum * a_scale) * b_scale [+ acc], rounded -------------------------------

    // On its way under the main loop.
    __device__ void fetch_scales(int m, int n) const {
        const std::uint32_t to = shared.base + shared.scales(warpgroup);
        const int t = static_cast<int>(threadIdx.x) % 128;
        if (t < 64) ptx::cp_async(to + t * 4, p.a_scale + min(m + t, p.m - 1), m + t < p.m);
        if constexpr (C::kColumnGroups) {
            ptx::cp_async(to + (64 + t) * 4, p.b_scale + min(n + t, p.n - 1), n + t < p.n);
        } else {
            if (t == 64) ptx::cp_async(to + t * 4, p.b_scale, true);
        }
    }

    // y of the rows `row` and `row` + 8, columns {0, 1} + 8 c + 2 (lane % 4).
    __device__ void scaled(float (&y)[4], int c) const {
        const auto* rows = reinterpret_cast<const float*>(shared.data + shared.scales(warpgroup));
        float2 column{rows[64], rows[64]};
        if constexpr (C::kColumnGroups) {
            column = reinterpret_cast<const float2*>(rows + 64)[c * 4 + lane % 4];
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            y[i] = __fmul_rn(__fmul_rn(sum[c * 4 + i], rows[row + i / 2 * 8]),
                             i % 2 ? column.y : column.x);
        }
    }

    // Adds acc (m, n) and its right neighbour.
    template <class T>
    __device__ void add_old(float& left, float& right, const T* acc, int m, int n) const {
        using Pair = std::conditional_t<sizeof(T) == 4, float2, __nv_bfloat162>;
        if (m >= p.m || n >= p.n) return;
        const T* at = acc + std::int64_t{m} * p.n + n;
        float2 old{};
        if (p.acc_pairs) {
            old = widen(*reinterpret_cast<const Pair*>(at));
        } else {
            old.x = static_cast<float>(at[0]);
            if (n + 1 < p.n) old.y = static_cast<float>(at[1]);
        }
        left = __fadd_rn(left, old.x);
        right = __fadd_rn(right, old.y);
    }

    // What a bulk store would do, for any pitch.
    template <class T>
    __device__ void copy_box(const char* box, int m, int n) const {
        constexpr int kColumns = 128 / sizeof(T);
        T* out = static_cast<T*>(p.out_data);
#pragma unroll 4
        for (int i = static_cast<int>(threadIdx.x) % 128; i < 64 * kColumns; i += 128) {
            const int r = i / kColumns, c = i % kColumns;
            if (m + r < p.m && n + c < p.n) {
                const int at = c * static_cast<int>(sizeof(T)) ^ (r & 7) << 4;
                out[std::int64_t{m + r} * p.n + n + c] =
                    *reinterpret_cast<const T*>(box + r * 128 + at);
            }
        }
    }

    __device__ void store_box(std::uint32_t box, int m, int n) const {
        if (p.add_boxes) {
            ptx::cp_reduce_async_bulk_tensor_2d_add(&p.out, n, m, box);
        } else {
            ptx::cp_async_bulk_tensor_2d_store(&p.out, n, m, box);
        }
        ptx::cp_async_bulk_commit_group();
    }

    // Through shared memory, in boxes of 64 rows and 128 bytes in the 128-byte swizzle: bulk stores
    // are coalesced, cut off what lies outside and run on under the next tile.
    template <class T>
    __device__ void store(int m, int n) const {
        constexpr int kColumns = 128 / sizeof(T);
        const T* acc = p.add_boxes ? nullptr : static_cast<const T*>(p.acc);
        const bool leader = threadIdx.x % 128 == 0;
        ptx::cp_async_wait_all();  // the scales; the barrier below shows them to all
#pragma unroll
        for (int i = 0; i < kTileN / kColumns; ++i, n += kColumns) {
            const int box = C::kStaging + (warpgroup * 2 + i % 2) * kBoxBytes;
            if (leader) ptx::cp_async_bulk_wait_group_read<1>();  // what the box held last
            ptx::bar_sync(1 + warpgroup, 128);
#pragma unroll
            for (int c = 0; c < kColumns / 8; ++c) {
                float y[4];
                scaled(y, i * (kColumns / 8) + c);
                if (acc) {
                    add_old(y[0], y[1], acc, m + row, n + 8 * c + lane % 4 * 2);
                    add_old(y[2], y[3], acc, m + row + 8, n + 8 * c + lane % 4 * 2);
                }
                stage_pair<T>(shared.base + box, row, c, y[0], y[1]);
                stage_pair<T>(shared.base + box, row + 8, c, y[2], y[3]);
            }
            if (p.store_boxes) ptx::fence_proxy_async();
            ptx::bar_sync(1 + warpgroup, 128);
            if (!p.store_boxes) {
                copy_box<T>(shared.data + box, m, n);
            } else if (leader) {
                store_box(shared.base + box, m, n);
            }
        }
    }

    __device__ void run() {
        Ring<C::kStages> ring;
        Tiles<C>(p).for_each(rank, [&](int m, int n) {
            m += warpgroup * 64;
            fetch_scales(m, n);
            main_loop(ring);
            if (p.out_f32) {
                store<float>(m, n);
            } else {
                store<__nv_bfloat16>(m, n);
            }
        });
        // Shared memory has to outlive the last stores.
        if (threadIdx.x % 128 == 0) ptx::cp_async_bulk_wait_group_read<0>();
    }
};

template <class C>
__device__ void start_barriers(const Params& p, const Shared<C>& shared) {
    if (threadIdx.x != 0) return;
    ptx::prefetch_tensormap(&p.a);
    ptx::prefetch_tensormap(&p.b);
    for (int s = 0; s < C::kStages; ++s) {
        ptx::mbarrier_init(shared.full(s), 1);
        ptx::mbarrier_init(shared.empty(s), C::kConsumers + C::kConsumers / 32 * (C::kCluster - 1) +
                                                (C::kColumnGroups ? kDecoders : 0));
        ptx::mbarrier_init(shared.decoded(s), kDecoders);
    }
    ptx::fence_mbarrier_init();
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) kernel(const __grid_constant__ Params p) {
    extern __shared__ __align__(1024) char memory[];
    const Shared<C> shared{ptx::shared_address(memory), memory};
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int rank = C::kCluster == 1 ? 0 : ptx::cluster_ctarank();

    start_barriers(p, shared);
    if constexpr (C::kCluster == 1) {
        __syncthreads();
    } else {
        ptx::barrier_cluster();
    }
    if (warp < C::kConsumers / 32) {
        ptx::setmaxnreg_inc<C::kConsumerRegisters>();
        Consumer<C>(p, shared, rank).run();
    } else {
        ptx::setmaxnreg_dec<C::kProducerRegisters>();
        if (warp == C::kConsumers / 32) {
            if (threadIdx.x % 32 == 0) produce<C>(p, shared, rank);
            __syncwarp();
        } else if constexpr (C::kColumnGroups) {
            decode<C>(p, shared, rank, static_cast<int>(threadIdx.x) - C::kConsumers - 32);
        }
    }
    // No block may leave while others write to its shared memory or arrive at its barriers.
    if constexpr (C::kCluster > 1) ptx::barrier_cluster();
}

}  // namespace octavo::cuda::moss
