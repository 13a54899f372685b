// Paged attention of single rows, as in decoding: bound by the bytes of keys and values. The query
// heads of a group share what is read: they are the eight columns of products whose rows are keys,
// then elements of values, so that nothing but a 16-byte access stands between a pool and the
// tensor cores:
//     scores^T (keys, heads) = k q^T,    o^T (elements, heads) += v^T p^T
//
// The keys of a row are split by its own length and the number of rows that a call may have. A warp
// has a split for one group of heads, a sum of its own; a second kernel adds the splits of a row
// up, in their order. So rows do not depend on each other, and warps wait for nothing but memory:
// neighbours have neighbouring groups, whose keys and values lie side by side.
//
// Blocks stay, three a multiprocessor, and their warps take splits in turn. A warp has a tile of
// keys or more than that of values on its way while it computes: 8 KiB a warp, up to 96 KiB a
// multiprocessor, where 3 TB/s times 1 us of latency are 23 KiB.
//
// Codes go to products in f16, one instruction for two of them: bf16 would take four. q, whose
// range is bf16's, is divided by a power of two for each head, and probabilities are multiplied by
// 2^15. Where products are in FP8, q and 256 times the probabilities are what their codes stand
// for, which f16 holds as well.
#include "backends/cuda/paged_decode.cuh"
#include "backends/cuda/paged_decode_tile.cuh"

namespace octavo::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kMostSplits = 16;
constexpr int kWindow = kWarp * kBlockTokens;  // keys whose blocks a warp knows

// How rows are split: into parts of about so many tiles of keys.
struct Splitting {
    int tiles, keys;  // of a split, of a tile

    __host__ __device__ int tiles_of(int visible) const { return (visible + keys - 1) / keys; }
    __host__ __device__ int count(int visible) const {
        const int all = tiles_of(visible), splits = (all + tiles / 2) / tiles;
        if (all == 0) return 0;
        return splits < 1 ? 1 : splits > kMostSplits ? kMostSplits : splits;
    }
    // The key that a split begins with; the last one ends with the row.
    __device__ int begin(int split, int splits, int visible) const {
        return min(split * tiles_of(visible) / splits * keys, visible);
    }
};

// A split for each of `warps`, if rows see 1,024 keys. Longer splits would leave the warps that end
// last alone for too long, shorter ones cost more to add up.
template <class T>
Splitting splitting_of(std::int64_t rows, std::int64_t groups, std::int64_t warps) {
    const std::int64_t tiles = ceil_div(rows * groups * (1024 / T::kKeys), warps);
    return {static_cast<int>(std::clamp<std::int64_t>(tiles, 2, 384 / T::kKeys)), T::kKeys};
}

// What a split of row i of the list, seen by a head, comes to: the sum of 2^(score - top) and of
// values so weighted.
struct Partials {
    float2* tops;   // and sums
    float* values;  // D each

    __device__ static std::int64_t at(int i, int heads, int head, int split) {
        return (std::int64_t{i} * heads + head) * kMostSplits + split;
    }
};

// A place in the work of a warp: a tile of keys of a split of a row, for a group of heads.
template <class P>
struct Walk {
    const PagedOperands<P>& a;
    const DecodedRows& list;
    const Splitting& splitting;
    const int* firsts;  // items before each row of the list, and all in the end
    int n;

    int item, i = 0, row = 0, group = 0;
    int at = 0, end = 0;  // keys
    int window = 0, block = 0;

    __device__ bool start(int item_) {
        item = item_;
        if (item >= firsts[n]) return false;
        int low = 0, high = n;  // firsts[low] <= item < firsts[high]
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            (firsts[middle] <= item ? low : high) = middle;
        }
        i = low;
        row = list.row(i);
        const int visible = a.visible(row);
        const int splits = splits_of(i), split = split_of(item, i);
        group = (item - firsts[i]) % a.groups;
        at = splitting.begin(split, splits, visible);
        end = splitting.begin(split + 1, splits, visible);
        look_up();
        return true;
    }
    __device__ int splits_of(int i) const { return (firsts[i + 1] - firsts[i]) / a.groups; }
    __device__ int split_of(int item, int i) const { return (item - firsts[i]) / a.groups; }
    __device__ bool next() {
        at += splitting.keys;
        if (at >= end) return start(item + static_cast<int>(gridDim.x) * kWarps);
        if (at == window + kWindow) look_up();
        return true;
    }
    __device__ void look_up() {
        window = at;
        const int first = at + static_cast<int>(threadIdx.x) % kWarp * kBlockTokens;
        block = first < end ? a.table_of(row)[first / kBlockTokens] : 0;
    }
    __device__ int left() const { return end - at; }
    // Where part i of the tile, 16 keys, lies in a pool.
    __device__ std::int64_t part_at(int part, int d) const {
        const int of = __shfl_sync(0xFFFFFFFF, block, (at - window) / kBlockTokens + part);
        return a.block_at(of, group, d);
    }
};

// firsts[i]: items before row i of the list, of n; firsts[n]: all.
template <class P>
__device__ void count_items(const PagedOperands<P>& a, const DecodedRows& list,
                            const Splitting& splitting, int n, int* firsts) {
    __shared__ int of_warps[kWarps];
    const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
    const int each = (n + kThreads - 1) / kThreads, begin = min(n, thread * each);
    const int end = min(n, begin + each);
    int mine = 0;
    for (int i = begin; i < end; ++i) {
        firsts[i] = splitting.count(a.visible(list.row(i))) * a.groups;
        mine += firsts[i];
    }
    int before = mine;  // and mine
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
        const int other = __shfl_up_sync(0xFFFFFFFF, before, step);
        if (lane >= step) before += other;
    }
    if (lane == kWarp - 1) of_warps[thread / kWarp] = before;
    __syncthreads();
    before -= mine;
    for (int warp = 0; warp < thread / kWarp; ++warp) before += of_warps[warp];
    for (int i = begin; i < end; ++i) {
        const int items = firsts[i];
        firsts[i] = before;
        before += items;
    }
    if (thread == kThreads - 1) firsts[n] = before;
    __syncthreads();
}

__device__ inline std::uint32_t pack_f16(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Neighbours in bf16, times a factor, to packed(low, high).
template <int kSteps, class Packed>
__device__ void scale_pairs(std::uint32_t (&q)[kSteps][2], float factor, Packed&& packed) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float low = __uint_as_float(q[s][i] << 16);
            const float high = __uint_as_float(q[s][i] & 0xFFFF0000);
            q[s][i] = packed(low * factor, high * factor);
        }
    }
}

// A lane's part of a head of q, of which lanes 4 g to 4 g + 3 have the rest, from bf16 to f16 over
// the power of two that is returned: its largest element is below 2 then, and what f16 does not
// hold of the smallest is less than 2^-24 of that.
template <int kSteps>
__device__ float to_f16(std::uint32_t (&q)[kSteps][2]) {
    std::uint32_t largest = 0;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            largest = max(largest, max(q[s][i] & 0x7FFF, q[s][i] >> 16 & 0x7FFF));
        }
    }
    largest = max(largest, __shfl_xor_sync(0xFFFFFFFF, largest, 1));
    largest = max(largest, __shfl_xor_sync(0xFFFFFFFF, largest, 2));
    // Both the power and its inverse are normal numbers.
    const int exponent = min(max(static_cast<int>(largest >> 7), 1), 253);
    const float inverse = __uint_as_float(static_cast<std::uint32_t>(254 - exponent) << 23);
    scale_pairs(q, inverse, pack_f16);
    return __uint_as_float(static_cast<std::uint32_t>(exponent) << 23);
}

// Two numbers as what their codes stand for.
__device__ inline std::uint32_t encoded_f16(float low, float high) {
    return decode_f16(encode_pair(low, high));
}

// NT: eights of heads in a group.
template <class P, int D, int NT, bool kFp8>
__global__ void __launch_bounds__(kThreads, NT == 1 ? 3 : 2)
    paged_decode_kernel(const __grid_constant__ PagedOperands<P> a,
                        const __grid_constant__ DecodedRows list, Splitting splitting,
                        Partials partials) {
    using T = DecodeTile<P, D>;
    constexpr int kSteps = D / 16;  // of either product
    extern __shared__ int firsts[];

    const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
    const int g = lane / 4, c = lane % 4;
    const int heads = a.heads / a.groups, stride = a.groups * D;
    const int n = list.count();
    count_items(a, list, splitting, n, firsts);
    for (int i = static_cast<int>(blockIdx.x); i < n; i += static_cast<int>(gridDim.x)) {
        if (firsts[i] != firsts[i + 1]) continue;
        bf16* o = a.o + std::int64_t{list.row(i)} * a.heads * D;
        for (int at = thread * 8; at < a.heads * D; at += kThreads * 8) {
            *reinterpret_cast<uint4*>(o + at) = uint4{};
        }
    }
    constexpr float kLift = kFp8 ? 256 : T::kCoded ? 0x1p15f : 1;  // of probabilities
    const float key_scale = T::kCoded ? a.scale * *a.k_scale : a.scale;
    const float value_scale = T::kCoded ? *a.v_scale / kLift : 1;

    Walk<P> walk{.a = a, .list = list, .splitting = splitting, .firsts = firsts, .n = n};
    bool more = walk.start(static_cast<int>(blockIdx.x) * kWarps + thread / kWarp);
    if (!more) return;
    // Two probabilities as they are multiplied.
    const auto weights_of = [](float x, float y) {
        if constexpr (kFp8) return encoded_f16(x * kLift, y * kLift);
        if constexpr (T::kCoded) return pack_f16(x * kLift, y * kLift);
        return pack(x, y);
    };
    std::uint32_t q[NT][kSteps][2];  // (16 elements, 8 heads), in bf16 until a split begins
    const auto load_q = [&] {
#pragma unroll
        for (int t = 0; t < NT; ++t) {
            const int head = t * 8 + g;
            const bf16* from =
                a.q + (std::int64_t{walk.row} * a.heads + walk.group * heads + head) * D;
#pragma unroll
            for (int s = 0; s < kSteps; ++s) {
                uint2 four{};
                if (head < heads) {
                    four = *reinterpret_cast<const uint2*>(from + T::key_element(s, c));
                }
                q[t][s][0] = four.x;
                q[t][s][1] = four.y;
            }
        }
    };
    const auto part_at = [&](int part) { return walk.part_at(part, D); };
    T tile;
    load_q();
    tile.load_keys(a.k, part_at, stride, walk.left(), g, c);
    tile.load_values(a.v, part_at, stride, walk.left(), g, c);

    float o[NT][kSteps][4];        // (16 elements, 8 heads)
    float top[NT][2], sum[NT][2];  // of heads 2 c and 2 c + 1
    float scale[NT][2];            // of their scores
    int item = -1;
    while (more) {
        const int left = walk.left(), i = walk.i;
        const bool fresh = walk.item != item;
        item = walk.item;
        more = walk.next();
        const bool last = !more || walk.item != item;

        if (fresh) {
#pragma unroll
            for (int t = 0; t < NT; ++t) {
                float unit = 1;  // of head g
                if constexpr (kFp8) {
                    unit = *a.q_scale;
                    scale_pairs(q[t], __frcp_rn(unit), encoded_f16);
                } else if constexpr (T::kCoded) {
                    unit = to_f16(q[t]);
                }
#pragma unroll
                for (int j = 0; j < 2; ++j) {
                    scale[t][j] = key_scale * __shfl_sync(0xFFFFFFFF, unit, (2 * c + j) * 4);
                }
                top[t][0] = top[t][1] = kNoScore;
                sum[t][0] = sum[t][1] = 0;
#pragma unroll
                for (int s = 0; s < kSteps; ++s) {
#pragma unroll
                    for (int j = 0; j < 4; ++j) o[t][s][j] = 0;
                }
            }
        }

        float p[T::kParts][NT][4] = {};  // scores, then probabilities: (16 keys, 8 heads)
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
#pragma unroll
            for (int part = 0; part < T::kParts; ++part) {
                std::uint32_t k[4];
                tile.keys(part, 0, s, k[0], k[2]);
                tile.keys(part, 1, s, k[1], k[3]);
#pragma unroll
                for (int t = 0; t < NT; ++t) {
                    ptx::mma_m16n8k16<T::kCoded>(p[part][t], k[0], k[1], k[2], k[3], q[t][s][0],
                                                 q[t][s][1]);
                }
            }
        }
        if (more) {
            if (last) load_q();
            tile.load_keys(a.k, part_at, stride, walk.left(), g, c);
        }

#pragma unroll
        for (int t = 0; t < NT; ++t) {
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                float higher = top[t][j];
#pragma unroll
                for (int part = 0; part < T::kParts; ++part) {
#pragma unroll
                    for (int h = 0; h < 2; ++h) {
                        float& score = p[part][t][2 * h + j];
                        score = 16 * part + 8 * h + g < left ? score * scale[t][j] : -INFINITY;
                        higher = fmaxf(higher, score);
                    }
                }
#pragma unroll
                for (int lane = 4; lane < kWarp; lane *= 2) {
                    higher = fmaxf(higher, __shfl_xor_sync(0xFFFFFFFF, higher, lane));
                }
                const float factor = ptx::ex2_approx(top[t][j] - higher);
                top[t][j] = higher;
                sum[t][j] *= factor;
#pragma unroll
                for (int s = 0; s < kSteps; ++s) {
                    o[t][s][j] *= factor;
                    o[t][s][2 + j] *= factor;
                }
#pragma unroll
                for (int part = 0; part < T::kParts; ++part) {
#pragma unroll
                    for (int h = 0; h < 2; ++h) {
                        float& x = p[part][t][2 * h + j];
                        x = ptx::ex2_approx(x - higher);
                        sum[t][j] += x;
                    }
                }
            }
        }

#pragma unroll
        for (int part = 0; part < T::kParts; ++part) {
            std::uint32_t weights[NT][2];  // (16 keys, 8 heads), as the right operand has them
#pragma unroll
            for (int t = 0; t < NT; ++t) {
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    const float x = p[part][t][2 * h], y = p[part][t][2 * h + 1];
                    weights[t][h] = ptx::movmatrix_trans(weights_of(x, y));
                }
            }
#pragma unroll
            for (int s = 0; s < kSteps; ++s) {
                std::uint32_t v[4];
                tile.values(part, 0, s, v[0], v[1]);
                tile.values(part, 1, s, v[2], v[3]);
#pragma unroll
                for (int t = 0; t < NT; ++t) {
                    ptx::mma_m16n8k16<T::kCoded>(o[t][s], v[0], v[1], v[2], v[3], weights[t][0],
                                                 weights[t][1]);
                }
            }
        }
        if (more) tile.load_values(a.v, part_at, stride, walk.left(), g, c);
        if (!last) continue;

        const int splits = walk.splits_of(i), split = walk.split_of(item, i);
        const int group = (item - firsts[i]) % a.groups;
        const std::int64_t head = group * heads;  // the first
        bf16* const to = a.o + (std::int64_t{list.row(i)} * a.heads + head) * D;
        const std::int64_t from = Partials::at(i, a.heads, static_cast<int>(head), 0);
#pragma unroll
        for (int t = 0; t < NT; ++t) {
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                const int of = t * 8 + 2 * c + j;
                float all = sum[t][j];
#pragma unroll
                for (int step = 4; step < kWarp; step *= 2) {
                    all += __shfl_xor_sync(0xFFFFFFFF, all, step);
                }
                if (of >= heads) continue;
                const float factor = splits == 1 ? value_scale / all : value_scale;
                const std::int64_t part = from + of * kMostSplits + split;
                if (splits > 1 && g == 0) partials.tops[part] = {top[t][j], all};
#pragma unroll
                for (int s = 0; s < kSteps; s += 2) {
                    float x[4] = {o[t][s][j], o[t][s][2 + j], o[t][s + 1][j], o[t][s + 1][2 + j]};
#pragma unroll
                    for (float& each : x) each *= factor;
                    const int element = T::value_element(2 * s / T::kTall, g) + 2 * s % T::kTall;
                    if (splits == 1) {
                        store<4>(to + of * D + element, x);
                    } else {
                        store<4>(partials.values + part * D + element, x);
                    }
                }
            }
        }
    }
}

// A warp for each head of a row.
template <class P, int D>
__global__ void __launch_bounds__(kBlock)
    combine_splits_kernel(const __grid_constant__ PagedOperands<P> a,
                          const __grid_constant__ DecodedRows list, Splitting splitting,
                          Partials partials) {
    constexpr int E = D / kWarp;
    const int task =
        static_cast<int>(blockIdx.x) * (kBlock / kWarp) + static_cast<int>(threadIdx.x) / kWarp;
    const int i = task / a.heads, head = task % a.heads;
    if (i >= list.count()) return;
    const int lane = static_cast<int>(threadIdx.x) % kWarp, row = list.row(i);
    const int splits = splitting.count(a.visible(row));
    if (splits <= 1) return;
    const std::int64_t from = Partials::at(i, a.heads, head, 0);
    const float2 mine = lane < splits ? partials.tops[from + lane] : float2{kNoScore, 0};
    const float factor = ptx::ex2_approx(mine.x - warp_max(mine.x));
    const float inverse = 1 / warp_sum(mine.y * factor);
    float x[E] = {};
    for (int split = 0; split < splits; ++split) {
        const float weight = __shfl_sync(0xFFFFFFFF, factor, split);
        float part[E];
        load<E>(partials.values + (from + split) * D + lane * E, part);
#pragma unroll
        for (int j = 0; j < E; ++j) x[j] += part[j] * weight;
    }
#pragma unroll
    for (float& each : x) each *= inverse;
    store<E>(a.o + (std::int64_t{row} * a.heads + head) * D + lane * E, x);
}

template <class P, int D, int NT, bool kFp8>
void launch(const PagedOperands<P>& a, const DecodedRows& list, std::byte* scratch) {
    const std::int64_t all = std::int64_t{list.most} * a.heads * kMostSplits;
    const Partials partials{.tops = reinterpret_cast<float2*>(scratch),
                            .values = reinterpret_cast<float*>(scratch) + 2 * all};
    const std::int64_t items = std::int64_t{list.most} * a.groups * kMostSplits;
    const std::int64_t most = device().multiprocessors() * (NT == 1 ? 3 : 2);
    const auto blocks = static_cast<unsigned>(std::min(ceil_div(items, kWarps), most));
    const auto bytes = static_cast<std::size_t>(list.most + 1) * sizeof(int);
    const Splitting splitting = splitting_of<DecodeTile<P, D>>(list.most, a.groups, most * kWarps);
    paged_decode_kernel<P, D, NT, kFp8>
        <<<blocks, kThreads, bytes, stream()>>>(a, list, splitting, partials);
    launched("paged_decode");
    if (splitting.count(a.table * kBlockTokens) <= 1) return;
    const std::int64_t warps = std::int64_t{list.most} * a.heads;
    combine_splits_kernel<P, D>
        <<<static_cast<unsigned>(ceil_div(warps, kBlock / kWarp)), kBlock, 0, stream()>>>(
            a, list, splitting, partials);
    launched("paged_decode");
}

}  // namespace

template <class P>
void decode_rows(const PagedOperands<P>& a, int d, const DecodedRows& list, std::byte* scratch) {
    if (list.most == 0) return;
    const auto run = [&]<bool kFp8>() {
        const bool wide = a.heads / a.groups > 8;
        if (d == 64) {
            wide ? launch<P, 64, 2, kFp8>(a, list, scratch)
                 : launch<P, 64, 1, kFp8>(a, list, scratch);
        } else {
            wide ? launch<P, 128, 2, kFp8>(a, list, scratch)
                 : launch<P, 128, 1, kFp8>(a, list, scratch);
        }
    };
    if constexpr (std::is_same_v<P, e4m3>) {
        if (a.q_scale) return run.template operator()<true>();
    }
    run.template operator()<false>();
}
template void decode_rows(const PagedOperands<bf16>&, int, const DecodedRows&, std::byte*);
template void decode_rows(const PagedOperands<e4m3>&, int, const DecodedRows&, std::byte*);

std::int64_t decode_scratch_bytes(std::int64_t rows, std::int64_t heads, std::int64_t d) {
    return rows * heads * kMostSplits * (d + 2) * static_cast<std::int64_t>(sizeof(float));
}

Refusal reject_paged_cores(const NodeView& node) {
    const Shape &q = node.in[0].shape, &pool = node.in[1].shape;
    if (node.in[0].dtype != Dtype::bf16) return fmt::format("it is {}", name(node.in[0].dtype));
    if (q[3] != 64 && q[3] != 128) return fmt::format("heads of {} elements", q[3]);
    const std::int64_t block = std::get<PagedAttention>(node.op).block;
    if (block != kBlockTokens) return fmt::format("blocks of {} tokens", block);
    if (q[2] / pool[1] > 16) return fmt::format("{} query heads share a key", q[2] / pool[1]);
    if (node.in[5].shape[1] > (1 << 26)) return "tables are too long";
    return std::nullopt;
}

Refusal reject_paged_decode(const NodeView& node) {
    const Shape& q = node.in[0].shape;
    if (q[1] != 1) return fmt::format("{} rows of a sequence", q[1]);
    if (q[0] > kMostDecodedRows)
        return fmt::format("{} rows, of at most {}", q[0], kMostDecodedRows);
    return reject_paged_cores(node);
}

Prepared prepare_paged_decode(const NodeView& node) {
    const Shape& q = node.in[0].shape;
    const bool coded = node.in.size() >= 8;
    const float scale = std::get<PagedAttention>(node.op).scale;
    return {[=](const KernelCall& call) {
                const Shape& shape = call.in[0].type.shape;
                const auto run = [&]<class P>() {
                    const PagedOperands<P> a(call, scale);
                    decode_rows(a, static_cast<int>(shape[3]), {.most = a.rows}, call.scratch);
                };
                coded ? run.template operator()<e4m3>() : run.template operator()<bf16>();
            },
            decode_scratch_bytes(q[0], q[2], q[3])};
}

}  // namespace octavo::cuda
