// Paged attention of prompts. Neighbouring rows of a sequence, each with the query heads that share
// a key head, are the 128 rows of a tile, 32 a warp. Keys and values come in tiles of 64, the next
// ones while these are multiplied; codes become bf16 on their way from one place in shared memory
// to another. Softmax is online, in f32, with probabilities in bf16. Rows that have no neighbours
// are decoded.
//
// Products in FP8 are products in bf16 of what the codes stand for, which it holds: below wgmma,
// whose operands would have to be transposed in shared memory, Hopper has no faster ones (mma of
// e4m3 becomes conversions and mma of f16).
//
// Two blocks a multiprocessor, 96 KiB of shared memory and 128 threads of 255 registers each. They
// take tiles in turn, the last ones first, since these see the most keys.
#include "backends/cuda/paged_decode.cuh"
#include "backends/cuda/paged_plan.cuh"
#include "backends/cuda/ptx.cuh"

namespace octavo::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp, kBlocks = 2;  // of a multiprocessor
constexpr int kRows = 128, kRowsOfWarp = kRows / kWarps;
constexpr int kKeys = 64;
constexpr int kWindow = kWarp * kBlockTokens / kKeys;  // tiles whose blocks a warp knows

// Rows of D elements in shared memory, 16 bytes at a time: what eight rows have in a column is
// spread over all banks. From at(row, 0 or 1), an even number of chunks further is that XOR
// `chunks * 16`; eight rows further is as many bytes.
template <int D>
struct Rows {
    static constexpr int kChunks = D / 8;
    static constexpr int bytes(int rows) { return rows * D * 2; }
    __device__ static int at(int row, int chunk) {
        return (row * kChunks + (chunk ^ (row & 7))) * 16;
    }
};

template <class P, int D>
struct Memory {
    static constexpr bool kCoded = sizeof(P) == 1;
    static constexpr int kTile = Rows<D>::bytes(kKeys);
    static constexpr int kCodes = kKeys * D;
    static constexpr int kQ = 0;
    static constexpr int kK = kQ + Rows<D>::bytes(kRows);
    // Of plain pools, two tiles of keys and two of values; of codes one of each, and two of codes.
    static constexpr int kV = kK + (kCoded ? 1 : 2) * kTile;
    static constexpr int kKCodes = kV + (kCoded ? 1 : 2) * kTile;
    static constexpr int kVCodes = kKCodes + 2 * kCodes;
    static constexpr int kBytes = kCoded ? kVCodes + 2 * kCodes : kKCodes;
    static_assert(kBlocks * (kBytes + 2048) <= 232448);
};

// Rows of one sequence, and a key head.
struct Work {
    int row, end, group;
    int heads;  // of a group

    __device__ int rows() const { return (end - row) * heads; }
    // Where row `m` of the tile lies in q and o.
    template <class P>
    __device__ std::int64_t at(const PagedOperands<P>& a, int m) const {
        return std::int64_t{row + m / heads} * a.heads + group * heads + m % heads;
    }
};

template <class P, int D, bool kFp8>
struct Block {
    using M = Memory<P, D>;
    using R = Rows<D>;
    static constexpr int kSteps = D / 16;

    const PagedOperands<P>& a;
    char* memory;
    int* visible;  // keys of each row
    std::uint32_t base;
    int thread, warp, lane, g, c;

    __device__ Block(const PagedOperands<P>& operands, char* shared, int* keys_of_rows)
        : a(operands),
          memory(shared),
          visible(keys_of_rows),
          base(ptx::shared_address(shared)),
          thread(static_cast<int>(threadIdx.x)),
          warp(thread / kWarp),
          lane(thread % kWarp),
          g(lane / 4),
          c(lane % 4) {}

    __device__ void load_q(const Work& w) const {
        for (int i = thread; i < kRows * R::kChunks; i += kThreads) {
            const int m = i / R::kChunks, chunk = i % R::kChunks;
            const bool valid = m < w.rows();
            ptx::cp_async_16(base + M::kQ + R::at(m, chunk),
                             a.q + (valid ? w.at(a, m) * D + chunk * 8 : 0), valid);
        }
    }

    // q as what its codes stand for.
    __device__ void encode_q() const {
        const float inverse = __frcp_rn(*a.q_scale);
        for (int i = thread; i < kRows * R::kChunks; i += kThreads) {
            char* at = memory + M::kQ + i * 16;
            float x[8];
            load<8>(reinterpret_cast<const bf16*>(at), x);
#pragma unroll
            for (float& each : x) each *= inverse;
            const uint2 codes = encode_packet<e4m3>(x);
            *reinterpret_cast<uint4*>(at) = {decode_bf16(codes.x), decode_bf16(codes.x >> 16),
                                             decode_bf16(codes.y), decode_bf16(codes.y >> 16)};
        }
    }

    // Tile `t` of the keys and values of a sequence, zeros past the key `end`. `block` is a lane's
    // of the blocks of kWindow tiles.
    __device__ void load_keys(const Work& w, int t, int end, int& block) const {
        if (t % kWindow == 0) {
            const int i = t * (kKeys / kBlockTokens) + lane;
            block = i * kBlockTokens < end ? a.table_of(w.row)[i] : 0;
        }
        constexpr int kWide = 16 / static_cast<int>(sizeof(P));
        constexpr int kChunks = D / kWide;           // of a key
        constexpr int kAtOnce = kThreads / kChunks;  // keys: 8, 16 or 32
        constexpr int kStage = M::kCoded ? M::kCodes : M::kTile;
        constexpr int kPitch = kStage / kKeys;
        constexpr int kK = M::kCoded ? M::kKCodes : M::kK, kV = M::kCoded ? M::kVCodes : M::kV;
        const int mine = thread / kChunks, chunk = thread % kChunks;
        const int to = t % 2 * kStage + (M::kCoded ? thread * 16 : R::at(mine, chunk));
#pragma unroll
        for (int first = 0; first < kKeys; first += kAtOnce) {
            const int of =
                __shfl_sync(0xFFFFFFFF, block, (t % kWindow * kKeys + first + mine) / kBlockTokens);
            const int token = first % kBlockTokens + mine % kBlockTokens;
            const bool valid = t * kKeys + first + mine < end;
            const std::int64_t from =
                a.block_at(of, w.group, D) + token * a.groups * D + chunk * kWide;
            ptx::cp_async_16(base + kK + to + first * kPitch, a.k + from, valid);
            ptx::cp_async_16(base + kV + to + first * kPitch, a.v + from, valid);
        }
    }

    // Sixteen codes at a time.
    __device__ void decode_tile(int from, int to) const {
        constexpr int kChunks = D / 16;
        for (int i = thread; i < kKeys * kChunks; i += kThreads) {
            const int key = i / kChunks, chunk = i % kChunks;
            const uint4 codes = *reinterpret_cast<const uint4*>(memory + from + i * 16);
            const std::uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
            std::uint32_t x[8];
#pragma unroll
            for (int j = 0; j < 8; ++j) x[j] = decode_bf16(words[j / 2] >> j % 2 * 16);
            *reinterpret_cast<uint4*>(memory + to + R::at(key, 2 * chunk)) = {x[0], x[1], x[2],
                                                                              x[3]};
            *reinterpret_cast<uint4*>(memory + to + R::at(key, 2 * chunk + 1)) = {x[4], x[5], x[6],
                                                                                  x[7]};
        }
    }

    // s (32, 64) = q k^T.
    __device__ void score(float (&s)[2][kKeys / 8][4], std::uint32_t k) const {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
            for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) s[m][n][i] = 0;
            }
        }
        const std::uint32_t rows = base + M::kQ + R::at(warp * kRowsOfWarp + lane % 16, lane / 16);
        k += R::at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
            std::uint32_t q[2][4];
#pragma unroll
            for (int m = 0; m < 2; ++m) {
                ptx::ldmatrix_x4(q[m], (rows ^ step * 32) + R::bytes(m * 16));
            }
#pragma unroll
            for (int n = 0; n < kKeys / 8; n += 2) {
                std::uint32_t x[4];
                ptx::ldmatrix_x4(x, (k ^ step * 32) + R::bytes(n * 8));
#pragma unroll
                for (int m = 0; m < 2; ++m) {
                    ptx::mma_m16n8k16(s[m][n], q[m][0], q[m][1], q[m][2], q[m][3], x[0], x[1]);
                    ptx::mma_m16n8k16(s[m][n + 1], q[m][0], q[m][1], q[m][2], q[m][3], x[2], x[3]);
                }
            }
        }
    }

    // Keys from `first` on that a row does not see.
    __device__ void mask(float (&s)[2][kKeys / 8][4], int first) const {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int left = visible[warp * kRowsOfWarp + m * 16 + h * 8 + g] - first - 2 * c;
#pragma unroll
                for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        if (n * 8 + i >= left) s[m][n][2 * h + i] = -INFINITY;
                    }
                }
            }
        }
    }

    // Two probabilities as they are multiplied; those of codes, times 256, as what theirs stand
    // for.
    static __device__ std::uint32_t weights_of(float x, float y) {
        if constexpr (kFp8) {
            return decode_bf16(encode_pair(x, y));
        } else {
            return pack(x, y);
        }
    }

    // o (32, D) += p v.
    __device__ void add_values(float (&o)[2][D / 8][4], const float (&p)[2][kKeys / 8][4],
                               std::uint32_t v) const {
        v += R::at(lane % 16, lane / 16);
#pragma unroll
        for (int step = 0; step < kKeys / 16; ++step) {
            std::uint32_t weights[2][4];
#pragma unroll
            for (int m = 0; m < 2; ++m) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float(&from)[4] = p[m][2 * step + i / 2];
                    weights[m][i] = weights_of(from[i % 2 * 2], from[i % 2 * 2 + 1]);
                }
            }
#pragma unroll
            for (int n = 0; n < D / 8; n += 2) {
                std::uint32_t x[4];
                ptx::ldmatrix_x4_trans(x, (v ^ n * 16) + R::bytes(step * 16));
#pragma unroll
                for (int m = 0; m < 2; ++m) {
                    const std::uint32_t(&w)[4] = weights[m];
                    ptx::mma_m16n8k16(o[m][n], w[0], w[1], w[2], w[3], x[0], x[1]);
                    ptx::mma_m16n8k16(o[m][n + 1], w[0], w[1], w[2], w[3], x[2], x[3]);
                }
            }
        }
    }

    // o / sum, by way of the warp's rows of q, which it has read. Rows that see nothing are zero.
    __device__ void write(const Work& w, const float (&o)[2][D / 8][4],
                          const float (&sum)[2][2]) const {
        const float v_scale = M::kCoded ? *a.v_scale : 1;
        __syncwarp();
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int row = warp * kRowsOfWarp + m * 16 + h * 8 + g;
                float all = sum[m][h];
                all += __shfl_xor_sync(0xFFFFFFFF, all, 1);
                all += __shfl_xor_sync(0xFFFFFFFF, all, 2);
                const float inverse = v_scale / all;
#pragma unroll
                for (int n = 0; n < D / 8; ++n) {
                    const std::uint32_t pair =
                        pack(o[m][n][2 * h] * inverse, o[m][n][2 * h + 1] * inverse);
                    *reinterpret_cast<std::uint32_t*>(memory + M::kQ + R::at(row, n) + c * 4) =
                        visible[row] > 0 ? pair : 0;
                }
            }
        }
        __syncwarp();
        for (int i = lane; i < kRowsOfWarp * R::kChunks; i += kWarp) {
            const int m = warp * kRowsOfWarp + i / R::kChunks, chunk = i % R::kChunks;
            if (m >= w.rows()) break;
            *reinterpret_cast<uint4*>(a.o + w.at(a, m) * D + chunk * 8) =
                *reinterpret_cast<const uint4*>(memory + M::kQ + R::at(m, chunk));
        }
    }

    __device__ void run(const Work& w) const {
        constexpr float kLift = kFp8 ? 8 : 0;  // probabilities and their sums are times 2^kLift
        const float unit = kFp8 ? *a.q_scale * *a.k_scale : M::kCoded ? *a.k_scale : 1;
        const float scale = a.scale * unit;
        // Keys that all of the tile's rows see, and that any does.
        std::uint32_t most = 0, unseen = 0;
        for (int row = w.row + lane; row < w.end; row += kWarp) {
            const auto n = static_cast<std::uint32_t>(a.visible(row));
            most = max(most, n);
            unseen = max(unseen, ~n);
        }
        const int end = static_cast<int>(warp_max(most)),
                  least = static_cast<int>(~warp_max(unseen));
        visible[thread] = thread < w.rows() ? a.visible(w.row + thread / w.heads) : 0;

        float o[2][D / 8][4] = {}, top[2][2], sum[2][2] = {};
        top[0][0] = top[0][1] = top[1][0] = top[1][1] = kNoScore;
        int block = 0;
        load_q(w);
        if (end > 0) load_keys(w, 0, end, block);
        for (int t = 0; t * kKeys < end; ++t) {
            ptx::cp_async_wait_all();
            __syncthreads();
            const bool more = (t + 1) * kKeys < end;
            std::uint32_t k = base + M::kK, v = base + M::kV;
            if constexpr (M::kCoded) {
                if (more) load_keys(w, t + 1, end, block);
                if (kFp8 && t == 0) encode_q();
                decode_tile(M::kKCodes + t % 2 * M::kCodes, M::kK);
                decode_tile(M::kVCodes + t % 2 * M::kCodes, M::kV);
                __syncthreads();
            } else {
                if (more) load_keys(w, t + 1, end, block);
                k += t % 2 * M::kTile;
                v += t % 2 * M::kTile;
            }
            float p[2][kKeys / 8][4];
            score(p, k);
            if ((t + 1) * kKeys > least) mask(p, t * kKeys);
            float factor[2][2];
            bool same = true;
#pragma unroll
            for (int m = 0; m < 2; ++m) {
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    float higher = top[m][h];
#pragma unroll
                    for (int n = 0; n < kKeys / 8; ++n) {
                        higher = fmaxf(higher, fmaxf(p[m][n][2 * h], p[m][n][2 * h + 1]));
                    }
                    higher = fmaxf(higher, __shfl_xor_sync(0xFFFFFFFF, higher, 1));
                    higher = fmaxf(higher, __shfl_xor_sync(0xFFFFFFFF, higher, 2));
                    same = same && higher == top[m][h];
                    factor[m][h] = ptx::ex2_approx((top[m][h] - higher) * scale);
                    top[m][h] = higher;
                    sum[m][h] *= factor[m][h];
                    const float shift = higher * scale - kLift;
#pragma unroll
                    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
                        for (int i = 2 * h; i < 2 * h + 2; ++i) {
                            p[m][n][i] = ptx::ex2_approx(fmaf(p[m][n][i], scale, -shift));
                            sum[m][h] += p[m][n][i];
                        }
                    }
                }
            }
            // Seldom once a few tiles have been seen.
            if (!__all_sync(0xFFFFFFFF, same)) {
#pragma unroll
                for (int m = 0; m < 2; ++m) {
#pragma unroll
                    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
                        for (int i = 0; i < 4; ++i) o[m][n][i] *= factor[m][i / 2];
                    }
                }
            }
            add_values(o, p, v);
        }
        if (end == 0) {  // q and the visible are on their way yet
            ptx::cp_async_wait_all();
            __syncthreads();
        }
        write(w, o, sum);
    }
};

template <class P, int D, bool kFp8>
__global__ void __launch_bounds__(kThreads, kBlocks)
    paged_prefill_kernel(const __grid_constant__ PagedOperands<P> a, PagedPlan plan) {
    extern __shared__ __align__(1024) char memory[];
    __shared__ int visible[kRows];
    __shared__ Work work;  // registers are scarce
    const Block<P, D, kFp8> block(a, memory, visible);
    while (true) {
        if (threadIdx.x == 0) {
            const int taken = atomicAdd(&plan.counts->taken, 1);
            const int tile = plan.counts->tiles - 1 - taken / a.groups;
            work.row = tile < 0 ? 0 : plan.tiles[tile].x;
            work.end = tile < 0 ? 0 : plan.tiles[tile].y;
            work.group = taken % a.groups;
            work.heads = a.heads / a.groups;
        }
        __syncthreads();
        if (work.end == 0) return;
        block.run(work);
        __syncthreads();
    }
}

template <class P, int D, bool kFp8>
void launch(const PagedOperands<P>& a, const PagedPlan& plan) {
    constexpr int kBytes = Memory<P, D>::kBytes;
    static const bool ready = [] {
        expect(cudaFuncSetAttribute(paged_prefill_kernel<P, D, kFp8>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
               "shared memory of paged_prefill");
        return true;
    }();
    static_cast<void>(ready);
    const std::int64_t work = std::int64_t{a.rows} * a.groups;
    const auto blocks = std::min<std::int64_t>(work, device().multiprocessors() * kBlocks);
    paged_prefill_kernel<P, D, kFp8>
        <<<static_cast<unsigned>(blocks), kThreads, kBytes, stream()>>>(a, plan);
    launched("paged_prefill");
}

// Rows without neighbours: of each sequence one, as calls are made.
std::int64_t most_lone(const NodeView& node) {
    const Shape& q = node.in[0].shape;
    return std::min({q[0] * q[1], node.in[5].shape[0], kMostDecodedRows});
}

}  // namespace

Refusal reject_paged_prefill(const NodeView& node) {
    const Shape& q = node.in[0].shape;
    if (q[1] == 1) return "it has one row of each sequence";
    if (q[0] * q[1] > (1 << 30)) return "too many rows";
    if (const float scale = std::get<PagedAttention>(node.op).scale; !(scale > 0)) {
        return fmt::format("scores are multiplied by {}", scale);
    }
    return reject_paged_cores(node);
}

Prepared prepare_paged_prefill(const NodeView& node) {
    const Shape& q = node.in[0].shape;
    const std::int64_t lone = most_lone(node), d = q[3];
    const std::int64_t plan_bytes = PagedPlan::bytes(q[0] * q[1], lone);
    const bool coded = node.in.size() >= 8, fp8 = node.in.size() == 9;
    const float scale = std::get<PagedAttention>(node.op).scale;
    return {[=](const KernelCall& call) {
                const auto run = [&]<class P, bool kFp8>() {
                    const PagedOperands<P> a(call, scale);
                    if (a.rows == 0) return;
                    const PagedPlan plan(call.scratch, a.rows);
                    paged_plan_kernel<<<1, kPlanThreads, 0, stream()>>>(
                        a.sequences, a.rows, kRows / (a.heads / a.groups), static_cast<int>(lone),
                        plan);
                    launched("paged_prefill");
                    d == 64 ? launch<P, 64, kFp8>(a, plan) : launch<P, 128, kFp8>(a, plan);
                    decode_rows(a, static_cast<int>(d),
                                {.most = static_cast<int>(lone),
                                 .rows = plan.lone,
                                 .listed = &plan.counts->lone},
                                call.scratch + plan_bytes);
                };
                if (fp8) return run.template operator()<e4m3, true>();
                coded ? run.template operator()<e4m3, false>()
                      : run.template operator()<bf16, false>();
            },
            plan_bytes + decode_scratch_bytes(lone, q[2], d)};
}

}  // namespace octavo::cuda
