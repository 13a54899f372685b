// The kernel of grouped_gemm.h.
//
// A block stays on its multiprocessor and takes one output tile after the other. One thread brings
// operands into a ring of stages; two warpgroups of 64 rows each multiply. The two blocks of a
// cluster take tiles one below the other: where both belong to one expert, each brings half of b
// for both.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "backends/cuda/grouped_tiles.h"
#include "backends/cuda/pipeline.cuh"
#include "backends/cuda/ptx.cuh"
#include "backends/cuda/wgmma.cuh"

namespace octavo::cuda::grouped {

inline constexpr int kM = 128;           // rows of a tile: two warpgroups
inline constexpr int kStageBytes = 128;  // of the reduction: a row of the 128-byte swizzle
inline constexpr int kCluster = 2;
inline constexpr int kConsumers = 256, kThreads = kConsumers + 128;
inline constexpr int kConsumerRegisters = 232, kProducerRegisters = 40;  // shares of 64 Ki
inline constexpr int kMaxExperts = 511;

// Where partial sums are added up: never outside the tensor cores (BF16, which has FP32 there; fast
// FP8), or in f32 after each stage, as they are or under the scales of 128 codes.
enum class Sums { tensor_cores, stages, squares, runs };

struct Params {
    CUtensorMap a, b, out;
    const std::int32_t* offsets;
    const float *a_scale, *b_scale;
    const void* acc;
    bool by_k;
    int experts, m, n, k;  // m: all rows, or those of one expert's result
    int a_pitch, b_pitch;  // of block scales
    float factor;
    bool out_f32;
    bool in_place;   // acc is out
    bool add_boxes;  // in FP32: the L2 adds (and flushes subnormals)
};

template <ptx::Types kTypes_, bool kTransA_, bool kTransB_, Sums kSums_>
struct Config {
    static constexpr ptx::Types kTypes = kTypes_;
    static constexpr bool kTransA = kTransA_, kTransB = kTransB_;
    static constexpr Sums kSums = kSums_;
    static constexpr bool kPromotes = kSums != Sums::tensor_cores;
    static constexpr bool kBlocks = kSums == Sums::squares || kSums == Sums::runs;
    static constexpr bool kBf16 = kTypes == ptx::Types::bf16;
    static_assert(kBf16 || (!kTransA && !kTransB), "FP8 is multiplied along contiguous rows only");
    static_assert(!(kBf16 && kPromotes));

    // Registers for a warpgroup's sums, and for the products of a stage where they are apart.
    static constexpr int kN = kPromotes ? 128 : 256;
    static constexpr int kStages = kPromotes ? 5 : 4;
    static constexpr int kStageK = kBf16 ? kStageBytes / 2 : kStageBytes;
    using Tiles = GroupedTiles<kM, kN, kStageK, kCluster>;

    // Shared memory. Operand tiles in the swizzle come first: they start at multiples of 1024.
    static constexpr int kABytes = kM * kStageBytes, kBBytes = kN * kStageBytes;
    static constexpr int kA = 0;
    static constexpr int kB = kA + kStages * kABytes;
    static constexpr int kStaging = kB + kStages * kBBytes;  // two boxes per warpgroup
    static constexpr int kScales = kStaging + 4 * kBoxBytes;
    static constexpr int kStageScales = kBlocks ? (kM + kN) * 4 : 0;  // of a's rows, of b's
    static constexpr int kOffsets = kScales + kStages * kStageScales;
    static constexpr int kBarriers = kOffsets + (kMaxExperts + 1) * 4;
    static constexpr int kBytes = kBarriers + 2 * kStages * 8;
    static_assert(kBytes <= 232448);
};

template <class C>
struct Shared {
    std::uint32_t base;  // the address of
    char* data;

    // A stage's operands are there; they may be overwritten.
    __device__ std::uint32_t full(int s) const { return base + C::kBarriers + s * 8; }
    __device__ std::uint32_t empty(int s) const { return full(C::kStages + s); }

    __device__ std::uint32_t a(int s) const { return base + C::kA + s * C::kABytes; }
    __device__ std::uint32_t b(int s) const { return base + C::kB + s * C::kBBytes; }
    __device__ int a_scales(int s) const { return C::kScales + s * C::kStageScales; }
    __device__ int b_scales(int s) const { return a_scales(s) + kM * 4; }
    __device__ const float* floats(int at) const {
        return reinterpret_cast<const float*>(data + at);
    }
    __device__ std::int32_t* offsets() const {
        return reinterpret_cast<std::int32_t*>(data + C::kOffsets);
    }
};

// f(tile) for each of this block's tiles.
template <class C, class F>
__device__ void for_each_tile(const Params& p, const Shared<C>& shared, int rank, F f) {
    const typename C::Tiles tiles{p.by_k, p.experts, p.m, p.n, p.k};
    const int count = tiles.count(), step = static_cast<int>(gridDim.x) / kCluster;
    for (int t = static_cast<int>(blockIdx.x) / kCluster; t < count; t += step) {
        f(tiles.at(t, rank, shared.offsets()));
    }
}

// ---- Producer: one thread ----------------------------------------------------------------------

// kRows rows or columns from mn on, one stage deep from k on, of one plane: to this block or, to
// the same place, to all of the cluster. Rows come in one box, columns in boxes of 64.
template <bool kTrans, int kRows, bool kMulticast>
__device__ void bring(std::uint32_t to, const CUtensorMap* map, int mn, int k, int plane,
                      std::uint32_t full) {
    const auto box = [&](std::uint32_t at, int x, int y) {
        if constexpr (kMulticast) {
            ptx::cp_async_bulk_tensor_3d_multicast(at, map, x, y, plane, full, (1 << kCluster) - 1);
        } else {
            ptx::cp_async_bulk_tensor_3d(at, map, x, y, plane, full);
        }
    };
    if constexpr (kTrans) {
#pragma unroll
        for (int i = 0; i < kRows; i += 64) box(to + i * kStageBytes, mn + i, k);
    } else {
        box(to, k, mn);
    }
}

// Scales from `first` on of a line of `pitch`, or what there is of them; how many bytes that is.
__device__ inline int scale_bytes(int first, int pitch) {
    return 4 * max(0, min(128, pitch - first));
}

template <class C>
__device__ void produce(const Params& p, const Shared<C>& shared, int rank) {
    constexpr int kPart = C::kN / kCluster;  // rows of b that a block brings for the cluster
    Ring<C::kStages> ring;
    for_each_tile(p, shared, rank, [&](const GroupedTile& t) {
        const int a_scales = C::kBlocks ? scale_bytes(t.m, p.a_pitch) : 0;
        const int b_scales = C::kSums == Sums::runs ? scale_bytes(t.n, p.b_pitch) : 0;
        for (int i = 0; i < t.stages; ++i, ring.next()) {
            const int s = ring.stage, k = t.k + i * C::kStageK;
            const std::uint32_t full = shared.full(s);
            wait(shared.empty(s), ring.parity ^ 1);
            ptx::mbarrier_arrive_expect_tx(full, C::kABytes + C::kBBytes + a_scales + b_scales);
            bring<C::kTransA, kM, false>(shared.a(s), &p.a, t.m, k, 0, full);
            if (t.shares_b) {
                bring<C::kTransB, kPart, true>(shared.b(s) + rank * kPart * kStageBytes, &p.b,
                                               t.n + rank * kPart, k, t.b_expert, full);
            } else {
#pragma unroll
                for (int part = 0; part < kCluster; ++part) {
                    bring<C::kTransB, kPart, false>(shared.b(s) + part * kPart * kStageBytes, &p.b,
                                                    t.n + part * kPart, k, t.b_expert, full);
                }
            }
            if (a_scales) {
                ptx::cp_async_bulk(shared.base + shared.a_scales(s),
                                   p.a_scale + std::int64_t{k / 128} * p.a_pitch + t.m, a_scales,
                                   full);
            }
            if (b_scales) {
                ptx::cp_async_bulk(shared.base + shared.b_scales(s),
                                   p.b_scale + std::int64_t{k / 128} * p.b_pitch + t.n, b_scales,
                                   full);
            }
        }
    });
}

// ---- Consumers: warpgroups of 64 rows ----------------------------------------------------------

template <class C>
struct Consumer {
    // Registers as wgmma.cuh lays them out: a lane has two rows, eight apart, and of every eight
    // columns two neighbours.
    static constexpr int kSums = C::kN / 2;
    static constexpr int kColumnBox = kStageBytes * C::kStageK;  // bytes: 64 columns of a stage

    const Params& p;
    const Shared<C>& shared;
    int warpgroup, lane, row;  // the upper one of 64
    std::uint64_t a, b;        // descriptors for stage 0
    float a_scale = 1, b_scale = 1;
    float sum[kSums];
    float part[C::kPromotes ? kSums : 1];  // the products of a stage

    __device__ Consumer(const Params& params, const Shared<C>& memory)
        : p(params),
          shared(memory),
          // Shuffled: the compiler then knows that it is the same in all lanes.
          warpgroup(__shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128, 0)),
          lane(static_cast<int>(threadIdx.x) % 32),
          row(static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4),
          a(descriptor<C::kTransA>(shared.a(0) + warpgroup * 64 * kStageBytes)),
          b(descriptor<C::kTransB>(shared.b(0))) {
        if constexpr (!C::kBlocks) {
            if (p.a_scale) a_scale = *p.a_scale;
            if (p.b_scale) b_scale = *p.b_scale;
        }
    }

    template <bool kTrans>
    static __device__ std::uint64_t descriptor(std::uint32_t address) {
        return kTrans ? ptx::wgmma_descriptor(address, kColumnBox) : ptx::wgmma_descriptor(address);
    }

    // Keeps the compiler from using registers before the tensor cores are done with them, and from
    // putting off what has to happen to them before.
    template <int kCount>
    static __device__ void settle(float (&x)[kCount]) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(x[i])::"memory");
    }

    // Four instructions of 32 bytes each.
    template <int kCount>
    __device__ void multiply(int s, float (&to)[kCount], bool add) {
        constexpr int kAStep = C::kTransA ? 8 * C::kStageK / 4 : 2;
        constexpr int kBStep = C::kTransB ? 8 * C::kStageK / 4 : 2;
        ptx::wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const std::uint64_t from_a = a + s * (C::kABytes >> 4) + k * kAStep;
            const std::uint64_t from_b = b + s * (C::kBBytes >> 4) + k * kBStep;
            if constexpr (C::kN == 256) {
                ptx::wgmma_m64n256<C::kTypes, C::kTransA, C::kTransB>(to, from_a, from_b,
                                                                      add || k > 0);
            } else {
                ptx::wgmma_m64n128k32<C::kTypes>(to, from_a, from_b, add || k > 0);
            }
        }
        ptx::wgmma_commit_group();
    }

    // Every block of the cluster may write to this block's stage.
    __device__ void release(int s) const {
        __syncwarp();  // all lanes have read
        if (lane < kCluster) ptx::mbarrier_arrive_cluster(shared.empty(s), lane);
    }

    // The products of one stage run while the next one is waited for.
    __device__ void add_in_tensor_cores(Ring<C::kStages>& ring, int stages) {
        settle(sum);
        int last = 0;
        for (int i = 0; i < stages; ++i, ring.next()) {
            wait(shared.full(ring.stage), ring.parity);
            multiply(ring.stage, sum, true);
            ptx::wgmma_wait_group<1>();
            if (i > 0) release(last);
            last = ring.stage;
        }
        ptx::wgmma_wait_group<0>();
        settle(sum);
        if (stages > 0) release(last);
    }

    // sum += f part, f being the scale of the row times that of b.
    __device__ void promote(int s, float upper, float lower) {
        if constexpr (C::kSums == Sums::stages) {
#pragma unroll
            for (int i = 0; i < kSums; ++i) sum[i] = __fadd_rn(sum[i], part[i]);
        } else if constexpr (C::kSums == Sums::squares) {
#pragma unroll
            for (int i = 0; i < kSums; ++i) {
                sum[i] = __fmaf_rn(i & 2 ? lower : upper, part[i], sum[i]);
            }
        } else {
            const auto* scales = reinterpret_cast<const float2*>(shared.floats(shared.b_scales(s)));
#pragma unroll
            for (int i = 0; i < kSums; i += 4) {
                const float2 f = scales[i + lane % 4];
                sum[i] = __fmaf_rn(__fmul_rn(upper, f.x), part[i], sum[i]);
                sum[i + 1] = __fmaf_rn(__fmul_rn(upper, f.y), part[i + 1], sum[i + 1]);
                sum[i + 2] = __fmaf_rn(__fmul_rn(lower, f.x), part[i + 2], sum[i + 2]);
                sum[i + 3] = __fmaf_rn(__fmul_rn(lower, f.y), part[i + 3], sum[i + 3]);
            }
        }
    }

    __device__ void add_in_f32(Ring<C::kStages>& ring, const GroupedTile& t) {
        const float* square = nullptr;  // the scale of b's 128 x 128
        if constexpr (C::kSums == Sums::squares) {
            square = p.b_scale + (std::int64_t{t.b_expert} * (p.n / 128) + t.n / 128) * p.b_pitch +
                     t.k / 128;
        }
        for (int i = 0; i < t.stages; ++i, ring.next()) {
            const int s = ring.stage;
            float upper = 1, lower = 1;
            if constexpr (C::kSums == Sums::squares) upper = lower = __ldg(square + i);
            wait(shared.full(s), ring.parity);
            if constexpr (C::kBlocks) {
                const float* scales = shared.floats(shared.a_scales(s)) + warpgroup * 64;
                upper = __fmul_rn(scales[row], upper);
                lower = __fmul_rn(scales[row + 8], lower);
            }
            multiply(s, part, false);
            settle(sum);
            ptx::wgmma_wait_group<0>();
            settle(part);
            if constexpr (C::kSums != Sums::runs) release(s);
            promote(s, upper, lower);
            if constexpr (C::kSums == Sums::runs) release(s);
        }
    }

    __device__ void add_up(Ring<C::kStages>& ring, const GroupedTile& t) {
        clear();
        if constexpr (C::kPromotes) {
            add_in_f32(ring, t);
        } else {
            add_in_tensor_cores(ring, t.stages);
        }
        if (t.past) clear();
    }

    __device__ void clear() {
#pragma unroll
        for (int i = 0; i < kSums; ++i) sum[i] = 0;
    }

    // ---- Epilogue -------------------------------------------------------------------------------

    __device__ float scaled(float x) const {
        if constexpr (C::kBf16) return __fmul_rn(x, p.factor);
        return __fmul_rn(__fmul_rn(__fmul_rn(x, a_scale), b_scale), p.factor);
    }

    // Adds acc (m, n) and its right neighbour.
    template <class T>
    __device__ void add_old(float& left, float& right, const T* acc, int m, int n) const {
        using Pair = std::conditional_t<sizeof(T) == 4, float2, __nv_bfloat162>;
        if (m >= p.m || n >= p.n) return;
        const float2 old = widen(*reinterpret_cast<const Pair*>(acc + std::int64_t{m} * p.n + n));
        left = __fadd_rn(left, old.x);
        right = __fadd_rn(right, old.y);
    }

    __device__ void store_box(std::uint32_t box, int m, int n, int expert) const {
        if (n >= p.n) return;
        if (p.add_boxes) {
            ptx::cp_reduce_async_bulk_tensor_3d_add(&p.out, n, m, expert, box);
        } else {
            ptx::cp_async_bulk_tensor_3d_store(&p.out, n, m, expert, box);
        }
    }

    // Through shared memory, in boxes of 64 rows and 128 bytes in the 128-byte swizzle: bulk stores
    // are coalesced, cut off what lies outside and run on under the next tile.
    template <class T>
    __device__ void store(const GroupedTile& t) const {
        constexpr int kColumns = 128 / sizeof(T), kBoxes = C::kN / kColumns;
        static_assert(kBoxes % 2 == 0, "the next tile starts with the box that is older");
        const T* acc = nullptr;
        if (p.acc && !p.add_boxes) {
            acc = static_cast<const T*>(p.acc) + std::int64_t{t.out_expert} * p.m * p.n;
        }
        const bool leader = threadIdx.x % 128 == 0;
        const int m = t.m + warpgroup * 64;
#pragma unroll
        for (int i = 0; i < kBoxes; ++i) {
            const int n = t.n + i * kColumns;
            const std::uint32_t box =
                shared.base + C::kStaging + (warpgroup * 2 + i % 2) * kBoxBytes;
            if (leader) ptx::cp_async_bulk_wait_group_read<1>();  // what the box held last
            ptx::bar_sync(1 + warpgroup, 128);
#pragma unroll
            for (int c = 0; c < kColumns / 8; ++c) {
                const float* x = sum + (i * (kColumns / 8) + c) * 4;
                float y[4] = {scaled(x[0]), scaled(x[1]), scaled(x[2]), scaled(x[3])};
                if (acc) {
                    add_old(y[0], y[1], acc, m + row, n + 8 * c + lane % 4 * 2);
                    add_old(y[2], y[3], acc, m + row + 8, n + 8 * c + lane % 4 * 2);
                }
                stage_pair<T>(box, row, c, y[0], y[1]);
                stage_pair<T>(box, row + 8, c, y[2], y[3]);
            }
            ptx::fence_proxy_async();
            ptx::bar_sync(1 + warpgroup, 128);
            if (leader) {
                store_box(box, m, n, t.out_expert);
                ptx::cp_async_bulk_commit_group();
            }
        }
    }

    __device__ void run(int rank) {
        Ring<C::kStages> ring;
        for_each_tile(p, shared, rank, [&](const GroupedTile& t) {
            add_up(ring, t);
            if (p.in_place && (t.past || t.stages == 0)) return;
            if (p.out_f32) {
                store<float>(t);
            } else {
                store<__nv_bfloat16>(t);
            }
        });
        // Shared memory has to outlive the last stores.
        if (threadIdx.x % 128 == 0) ptx::cp_async_bulk_wait_group_read<0>();
    }
};

template <class C>
__device__ void start(const Params& p, const Shared<C>& shared) {
    for (int i = static_cast<int>(threadIdx.x); i <= p.experts; i += kThreads) {
        shared.offsets()[i] = p.offsets[i];
    }
    if (threadIdx.x == 0) {
        ptx::prefetch_tensormap(&p.a);
        ptx::prefetch_tensormap(&p.b);
        for (int s = 0; s < C::kStages; ++s) {
            ptx::mbarrier_init(shared.full(s), 1);
            ptx::mbarrier_init(shared.empty(s), kConsumers / 32 * kCluster);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    ptx::barrier_cluster();
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) kernel(const __grid_constant__ Params p) {
    extern __shared__ __align__(1024) char memory[];
    const Shared<C> shared{ptx::shared_address(memory), memory};
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int rank = ptx::cluster_ctarank();

    start(p, shared);
    if (warp < kConsumers / 32) {
        ptx::setmaxnreg_inc<kConsumerRegisters>();
        Consumer<C>(p, shared).run(rank);
    } else {
        ptx::setmaxnreg_dec<kProducerRegisters>();
        if (warp == kConsumers / 32) {
            if (threadIdx.x % 32 == 0) produce<C>(p, shared, rank);
            __syncwarp();
        }
    }
    // No block may leave while others write to its shared memory or arrive at its barriers.
    ptx::barrier_cluster();
}

}  // namespace octavo::cuda::grouped
