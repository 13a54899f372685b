// The kernel of few_rows_gemm.h. A block multiplies 128 rows of the weight with all of x, for a
// part of K: one thread keeps a ring of stages filled, two warpgroups of 64 weight rows each drain
// it. The blocks of a cluster have the same rows of the weight and different parts of K, and add
// their sums through each other's shared memory, in the order of their ranks.
#include "backends/cuda/few_rows_gemm.h"

#include <cuda_bf16.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "backends/cuda/device.h"
#include "backends/cuda/pipeline.cuh"
#include "backends/cuda/ptx.cuh"
#include "backends/cuda/tensor_map.h"
#include "backends/cuda/wgmma.cuh"
#include "backends/cuda/wgmma_narrow.cuh"
#include "base/error.h"

namespace octavo::cuda {
namespace {

constexpr int kTile = 128;        // rows of the weight
constexpr int kStageBytes = 128;  // of K: a block of scales
constexpr int kConsumers = 256, kThreads = kConsumers + 32;
constexpr int kMaxCluster = 8;

struct Params {
    CUtensorMap w, x;
    const float *w_scale, *x_scale;
    int w_pitch, x_pitch;  // of the scales
    int m, n, stages;
    const void *bias, *acc;
    void* y;
    bool f32;
};

template <int kTokens_>
struct Config {
    static constexpr int kTokens = kTokens_;
    static constexpr int kStages = 4;
    static constexpr int kSums = kTokens / 2;  // of a thread

    static constexpr int kWBytes = kTile * kStageBytes, kXBytes = kTokens * kStageBytes;
    static constexpr int kW = 0;
    static constexpr int kX = kW + kStages * kWBytes;
    static constexpr int kScales = kX + kStages * kXBytes;
    static constexpr int kBarriers = kScales + kStages * kTokens * 4;
    static constexpr int kBytes = kBarriers + 2 * kStages * 8;

    // Sums from all blocks of a cluster lie over the stages, when those are done.
    static constexpr int pitch(int rows) { return rows + 4; }  // without bank conflicts
    static_assert(kTokens * (kTile + 4 * kMaxCluster) * 4 <= kScales);
};

template <class C>
struct Block {
    const Params& p;
    char* memory;
    std::uint32_t base;
    int rank, blocks;  // of the cluster
    int begin, end;    // stages of K

    __device__ Block(const Params& params, char* shared)
        : p(params),
          memory(shared),
          base(ptx::shared_address(shared)),
          rank(ptx::cluster_ctarank()),
          blocks(static_cast<int>(gridDim.x)),
          begin(p.stages * rank / blocks),
          end(p.stages * (rank + 1) / blocks) {}

    __device__ std::uint32_t full(int s) const { return base + C::kBarriers + s * 8; }
    __device__ std::uint32_t empty(int s) const { return full(C::kStages + s); }
    __device__ int first_row() const { return static_cast<int>(blockIdx.y) * kTile; }

    __device__ void start() const {
        if (threadIdx.x == 0) {
            ptx::prefetch_tensormap(&p.w);
            ptx::prefetch_tensormap(&p.x);
            for (int s = 0; s < C::kStages; ++s) {
                ptx::mbarrier_init(full(s), 1);
                ptx::mbarrier_init(empty(s), kConsumers);
            }
            ptx::fence_mbarrier_init();
        }
        __syncthreads();
    }

    __device__ void produce() const {
        const int scale_bytes = min(p.x_pitch, C::kTokens) * 4;
        Ring<C::kStages> ring;
        for (int i = begin; i < end; ++i, ring.next()) {
            const int s = ring.stage, k = i * kStageBytes;
            wait(empty(s), ring.parity ^ 1);
            ptx::mbarrier_arrive_expect_tx(full(s), C::kWBytes + C::kXBytes + scale_bytes);
            ptx::cp_async_bulk_tensor_2d(base + C::kW + s * C::kWBytes, &p.w, k, first_row(),
                                         full(s));
            ptx::cp_async_bulk_tensor_2d(base + C::kX + s * C::kXBytes, &p.x, k, 0, full(s));
            ptx::cp_async_bulk(base + C::kScales + s * C::kTokens * 4,
                               p.x_scale + std::int64_t{i} * p.x_pitch, scale_bytes, full(s));
        }
    }

    // Keeps the compiler from moving reads of sums over the wait for them.
    __device__ static void settle(float (&d)[C::kSums]) {
#pragma unroll
        for (int i = 0; i < C::kSums; ++i) asm volatile("" : "+f"(d[i])::"memory");
    }

    __device__ void consume(float (&sum)[C::kSums]) const {
        const int warpgroup = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128, 0);
        const int lane = static_cast<int>(threadIdx.x) % 32;
        const std::uint64_t w = ptx::wgmma_descriptor(base + C::kW + warpgroup * 64 * kStageBytes);
        const std::uint64_t x = ptx::wgmma_descriptor(base + C::kX);
        const float* w_scale = p.w_scale + static_cast<std::int64_t>(blockIdx.y) * p.w_pitch;
        float part[C::kSums];
#pragma unroll
        for (int i = 0; i < C::kSums; ++i) sum[i] = part[i] = 0;
        Ring<C::kStages> ring;
        for (int i = begin; i < end; ++i, ring.next()) {
            const int s = ring.stage;
            const float of_w = __ldg(w_scale + i);  // on its way under the wait
            wait(full(s), ring.parity);
            settle(part);
            ptx::wgmma_fence();
#pragma unroll
            for (int k = 0; k < kStageBytes / 32; ++k) {
                ptx::wgmma_narrow<C::kTokens>(part, w + s * (C::kWBytes >> 4) + 2 * k,
                                              x + s * (C::kXBytes >> 4) + 2 * k, k > 0);
            }
            ptx::wgmma_commit_group();
            ptx::wgmma_wait_group<0>();
            settle(part);
            const auto* of_x = reinterpret_cast<const float2*>(memory + C::kScales +
                                                               s * C::kTokens * 4 + lane % 4 * 8);
#pragma unroll
            for (int j = 0; j < C::kSums; j += 4) {
                const float2 f = of_x[j];  // of eight tokens, two are this lane's
                const float left = __fmul_rn(f.x, of_w), right = __fmul_rn(f.y, of_w);
                sum[j] = __fadd_rn(sum[j], __fmul_rn(part[j], left));
                sum[j + 1] = __fadd_rn(sum[j + 1], __fmul_rn(part[j + 1], right));
                sum[j + 2] = __fadd_rn(sum[j + 2], __fmul_rn(part[j + 2], left));
                sum[j + 3] = __fadd_rn(sum[j + 3], __fmul_rn(part[j + 3], right));
            }
            // Each reader for itself, which racecheck can follow.
            ptx::mbarrier_arrive(empty(s));
        }
    }

    // ---- Sums of the cluster -------------------------------------------------------------------

    // Each block adds up and writes its share of the rows: (source, token, row), rows contiguous.
    __device__ void scatter(const float (&sum)[C::kSums]) const {
        const int rows = kTile / blocks, pitch = C::pitch(rows);
        const int lane = static_cast<int>(threadIdx.x) % 32;
        const int row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int r = row + 8 * h;
            const std::uint32_t to =
                ptx::mapa(base + ((rank * C::kTokens) * pitch + r % rows) * 4, r / rows);
#pragma unroll
            for (int j = 0; j < C::kSums / 4; ++j) {
                const int token = 8 * j + 2 * (lane % 4);
                ptx::st_shared_cluster(to + token * pitch * 4, sum[4 * j + 2 * h]);
                ptx::st_shared_cluster(to + (token + 1) * pitch * 4, sum[4 * j + 2 * h + 1]);
            }
        }
    }

    template <class T>
    __device__ static float4 load4(const void* from, std::int64_t at) {
        if constexpr (sizeof(T) == 4) {
            return *reinterpret_cast<const float4*>(static_cast<const float*>(from) + at);
        } else {
            const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(
                static_cast<const __nv_bfloat16*>(from) + at);
            const float2 a = __bfloat1622float2(pairs[0]), b = __bfloat1622float2(pairs[1]);
            return {a.x, a.y, b.x, b.y};
        }
    }
    template <class T>
    __device__ static void store4(void* to, std::int64_t at, float4 v) {
        if constexpr (sizeof(T) == 4) {
            *reinterpret_cast<float4*>(static_cast<float*>(to) + at) = v;
        } else {
            auto* pairs = reinterpret_cast<__nv_bfloat162*>(static_cast<__nv_bfloat16*>(to) + at);
            pairs[0] = __floats2bfloat162_rn(v.x, v.y);
            pairs[1] = __floats2bfloat162_rn(v.z, v.w);
        }
    }
    __device__ static void add(float4& a, float4 b) {
        a = {__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w)};
    }

    template <class T>
    __device__ void gather() const {
        const int rows = kTile / blocks, pitch = C::pitch(rows), quads = rows / 4;
        const int first = first_row() + rank * rows;
        for (int i = static_cast<int>(threadIdx.x); i < p.m * quads; i += kThreads) {
            const int token = i / quads, row = i % quads * 4;
            if (first + row >= p.n) continue;
            float4 y{};
            for (int source = 0; source < blocks; ++source) {
                add(y, *reinterpret_cast<const float4*>(
                           memory + ((source * C::kTokens + token) * pitch + row) * 4));
            }
            const std::int64_t at = std::int64_t{token} * p.n + first + row;
            if (p.bias) add(y, load4<T>(p.bias, first + row));
            if (p.acc) add(y, load4<T>(p.acc, at));
            store4<T>(p.y, at, y);
        }
    }
};

template <class C>
__global__ void __launch_bounds__(kThreads, 2) kernel(const __grid_constant__ Params p) {
    extern __shared__ __align__(1024) char memory[];
    const Block<C> block(p, memory);
    block.start();
    float sum[C::kSums];
    const bool consumer = threadIdx.x < kConsumers;
    if (consumer) {
        block.consume(sum);
    } else {
        if (threadIdx.x == kConsumers) block.produce();
        __syncwarp();
    }
    ptx::barrier_cluster();  // nobody needs stages any more
    if (consumer) block.scatter(sum);
    ptx::barrier_cluster();
    if (p.f32) {
        block.template gather<float>();
    } else {
        block.template gather<__nv_bfloat16>();
    }
}

// ---- Launch ------------------------------------------------------------------------------------

// About one block a multiprocessor, and at least two stages for each.
int cluster_size(std::int64_t tiles, int stages) {
    int blocks = 1;
    while (blocks < kMaxCluster && tiles * blocks * 2 <= device().multiprocessors() &&
           stages >= blocks * 4) {
        blocks *= 2;
    }
    return blocks;
}

template <int kTokens>
void launch(const FewRowsGemm& g, cudaStream_t stream) {
    using C = Config<kTokens>;
    static const bool ready = [] {
        expect(
            cudaFuncSetAttribute(kernel<C>, cudaFuncAttributeMaxDynamicSharedMemorySize, C::kBytes),
            "shared memory of few_rows_gemm");
        return true;
    }();
    static_cast<void>(ready);
    const auto map = [&](const void* data, std::int64_t rows, int box) {
        return tensor_map(data, Dtype::e4m3, std::array{g.k, rows}, box);
    };
    const std::int64_t tiles = (g.n + kTile - 1) / kTile;
    const auto round_up = [](std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; };
    Params p{};
    p.w = map(g.w, g.n, kTile);
    p.x = map(g.x, g.m, kTokens);
    p.w_scale = g.w_scale;
    p.x_scale = g.x_scale;
    p.stages = static_cast<int>(round_up(g.k, kStageBytes) / kStageBytes);
    p.w_pitch = static_cast<int>(round_up(p.stages, 4));
    p.x_pitch = static_cast<int>(round_up(g.m, 4));
    p.m = static_cast<int>(g.m);
    p.n = static_cast<int>(g.n);
    p.bias = g.bias;
    p.acc = g.acc;
    p.y = g.y;
    p.f32 = g.out == Dtype::f32;

    const int blocks = cluster_size(tiles, p.stages);
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = {static_cast<unsigned>(blocks), static_cast<unsigned>(tiles), 1};
    config.blockDim = kThreads;
    config.dynamicSmemBytes = C::kBytes;
    config.stream = stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
    expect(cudaLaunchKernelEx(&config, kernel<C>, p), "few_rows_gemm");
}

}  // namespace

std::optional<std::string> refuse_few_rows(const FewRowsGemm& g) {
    if (g.m < 1 || g.m > kFewRows) return fmt::format("{} rows are not 1 to {}", g.m, kFewRows);
    if (g.out != Dtype::bf16 && g.out != Dtype::f32) return "the result is neither bf16 nor f32";
    if (g.k < 16 || g.k % 16 != 0) return fmt::format("K = {} is no multiple of 16", g.k);
    if (g.n < 8 || g.n % 8 != 0) return fmt::format("N = {} is no multiple of 8", g.n);
    if (g.n >= std::int64_t{65535} * kTile) return "N is too large for a grid";
    // Every tile of w reads all of x.
    if (g.m > 32 && g.n > 4096) return "cuBLASLt is as fast for so many rows and columns";
    return std::nullopt;
}

void few_rows_gemm(const FewRowsGemm& g, cudaStream_t stream) {
    if (g.m <= 16) return launch<16>(g, stream);
    if (g.m <= 32) return launch<32>(g, stream);
    launch<64>(g, stream);
}

}  // namespace octavo::cuda
