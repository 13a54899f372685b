// What device code shares: packets of elements that travel as 16-byte accesses, sums over a block,
// and loops over elements.
//
// Kernels compute in compute_t<T> and store with one rounding. Conversions to and from 16 and 8
// bits use the processor's instructions, two elements at a time; these give the codes of
// base/float8.h for every input (tests/backends/cuda). Only the payload of a bf16 NaN differs.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <concepts>
#include <cstdint>

#include "backends/cuda/device.h"
#include "backends/cuda/kernels.h"

namespace octavo::cuda {

// ---- Conversions -------------------------------------------------------------------------------

template <class T>
__device__ inline compute_t<T> widen(T x) {
    if constexpr (std::is_same_v<T, f16>) {
        return __half2float(__ushort_as_half(x.bits));
    } else if constexpr (std::is_same_v<T, e4m3> || std::is_same_v<T, e5m2>) {
        constexpr auto kFormat = std::is_same_v<T, e4m3> ? __NV_E4M3 : __NV_E5M2;
        return __half2float(__half(__nv_cvt_fp8_to_halfraw(x.bits, kFormat)));
    } else {
        return static_cast<compute_t<T>>(x);
    }
}

template <class T, class C>
__device__ inline T round_to(C x) {
    if constexpr (std::is_same_v<C, double> && !std::is_same_v<T, double>) {
        return from_f64<T>(x);
    } else if constexpr (std::is_same_v<T, bf16>) {
        return bf16::from_bits(__bfloat16_as_ushort(__float2bfloat16_rn(x)));
    } else if constexpr (std::is_same_v<T, f16>) {
        // Saturating, infinities too; NaN as base/float16.h has it.
        const float clamped = fminf(fmaxf(x, -max_value(Dtype::f16)), max_value(Dtype::f16));
        const auto code = __half_as_ushort(__float2half_rn(clamped));
        return f16::from_bits(isnan(x) ? std::uint16_t{0x7E00} : code);
    } else if constexpr (std::is_same_v<T, e4m3>) {
        return e4m3::from_bits(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3));
    } else if constexpr (std::is_same_v<T, e5m2>) {
        return e5m2::from_bits(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E5M2));
    } else {
        return static_cast<T>(x);
    }
}

// N neighbours.
template <class T, int N>
struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) Packet {
    T x[N];
};

// What a packet is moved in: the widest accesses that it is a multiple of. Left to itself, the
// compiler moves a struct element by element.
template <std::size_t kBytes>
using Word = std::conditional_t<
    kBytes % 16 == 0, uint4,
    std::conditional_t<
        kBytes % 8 == 0, uint2,
        std::conditional_t<kBytes % 4 == 0, std::uint32_t,
                           std::conditional_t<kBytes % 2 == 0, std::uint16_t, std::uint8_t>>>>;

template <int N, class T>
__device__ inline Packet<T, N> read_packet(const T* p) {
    using W = Word<sizeof(Packet<T, N>)>;
    constexpr int kWords = sizeof(Packet<T, N>) / sizeof(W);
    W words[kWords];
#pragma unroll
    for (int i = 0; i < kWords; ++i) words[i] = reinterpret_cast<const W*>(p)[i];
    Packet<T, N> packet;
    memcpy(&packet, words, sizeof(packet));
    return packet;
}

// To global memory: plain assignments of words fall apart into their elements.
template <int N, class T>
__device__ inline void write_packet(T* p, const Packet<T, N>& packet) {
    using W = Word<sizeof(Packet<T, N>)>;
    constexpr int kWords = sizeof(Packet<T, N>) / sizeof(W);
    W words[kWords];
    memcpy(words, &packet, sizeof(packet));
#pragma unroll
    for (int i = 0; i < kWords; ++i) __stwb(reinterpret_cast<W*>(p) + i, words[i]);
}

template <int N, class T, class C>
__device__ inline void load(const T* p, C (&x)[N]) {
    const Packet<T, N> packet = read_packet<N>(p);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = static_cast<C>(widen(packet.x[i]));
}

template <int N, class T, class C>
__device__ inline void store(T* p, const C (&x)[N]) {
    Packet<T, N> packet;
    if constexpr (N % 2 == 0 && std::is_same_v<T, bf16> && std::is_same_v<C, float>) {
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            const __nv_bfloat162 pair = __floats2bfloat162_rn(x[i], x[i + 1]);
            packet.x[i] = bf16::from_bits(__bfloat16_as_ushort(pair.x));
            packet.x[i + 1] = bf16::from_bits(__bfloat16_as_ushort(pair.y));
        }
    } else if constexpr (N % 2 == 0 && (std::is_same_v<T, e4m3> || std::is_same_v<T, e5m2>)) {
        constexpr auto kFormat = std::is_same_v<T, e4m3> ? __NV_E4M3 : __NV_E5M2;
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            const float2 pair{static_cast<float>(x[i]), static_cast<float>(x[i + 1])};
            const __nv_fp8x2_storage_t codes =
                __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, kFormat);
            packet.x[i] = T::from_bits(static_cast<std::uint8_t>(codes & 0xFF));
            packet.x[i + 1] = T::from_bits(static_cast<std::uint8_t>(codes >> 8));
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) packet.x[i] = round_to<T>(x[i]);
    }
    write_packet<N>(p, packet);
}

// x as T holds it.
template <class T, int N, class C>
__device__ inline void round_values(C (&x)[N]) {
    if constexpr (N % 2 == 0 && std::is_same_v<T, bf16> && std::is_same_v<C, float>) {
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            const float2 pair = __bfloat1622float2(__floats2bfloat162_rn(x[i], x[i + 1]));
            x[i] = pair.x;
            x[i + 1] = pair.y;
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = static_cast<C>(widen(round_to<T>(x[i])));
    }
}

// The codes of eight neighbours, first in the lowest byte.
template <class To>
__device__ inline uint2 encode_packet(const float (&x)[8]) {
    constexpr auto kFormat = std::is_same_v<To, e4m3> ? __NV_E4M3 : __NV_E5M2;
    std::uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        pairs[i] = __nv_cvt_float2_to_fp8x2({x[2 * i], x[2 * i + 1]}, __NV_SATFINITE, kFormat);
    }
    return {pairs[0] | pairs[1] << 16, pairs[2] | pairs[3] << 16};
}

// ---- Elementary functions ----------------------------------------------------------------------

template <class C>
__device__ inline C sigmoid(C x) {
    return C(1) / (C(1) + exp(-x));
}
// The reciprocal of the processor, within one unit in the last place: the correctly rounded one
// branches for every element.
template <>
__device__ inline float sigmoid(float x) {
    float y;
    asm("rcp.approx.f32 %0, %1;" : "=f"(y) : "f"(1.0f + expf(-x)));
    return y;
}

// ---- Sums and maxima over a block --------------------------------------------------------------

inline constexpr int kWarp = 32;

template <class C>
__device__ inline C warp_sum(C x) {
#pragma unroll
    for (int lane = kWarp / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(0xFFFFFFFF, x, lane);
    return x;
}

// The same for all threads of the block, which all have to call it. The order is fixed.
template <class C>
__device__ inline C block_sum(C x) {
    __shared__ C sums[kWarp];
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    x = warp_sum(x);
    __syncthreads();  // an earlier call's sums have been read
    if (lane == 0) sums[warp] = x;
    __syncthreads();
    return warp_sum(lane < warps ? sums[lane] : C(0));
}

// NaN is passed over.
template <std::floating_point C>
__device__ inline C warp_max(C x) {
#pragma unroll
    for (int lane = kWarp / 2; lane > 0; lane /= 2) {
        x = fmax(x, __shfl_xor_sync(0xFFFFFFFF, x, lane));
    }
    return x;
}

// Of values that order like their bits, as magnitudes do.
__device__ inline std::uint32_t warp_max(std::uint32_t x) {
    return __reduce_max_sync(0xFFFFFFFF, x);
}

template <class C>
__device__ inline C block_max(C x) {
    __shared__ C tops[kWarp];
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    x = warp_max(x);
    __syncthreads();  // an earlier call's maxima have been read
    if (lane == 0) tops[warp] = x;
    __syncthreads();
    return warp_max(tops[lane < warps ? lane : 0]);
}

// ---- Loops over elements -----------------------------------------------------------------------

inline constexpr int kBlock = 256;
inline constexpr int kPacket = 8;  // elements a thread handles together

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Where elements lie in a matrix.
struct At {
    std::int64_t row, column, columns;

    __device__ std::int64_t index() const { return row * columns + column; }
};

template <class Body>
__global__ void __launch_bounds__(kBlock) elementwise_kernel(std::int64_t n, Body body) {
    const std::int64_t at = (std::int64_t{blockIdx.x} * kBlock + threadIdx.x) * kPacket;
    if (at + kPacket <= n) {
        body.template run<kPacket>(at);
    } else {
        for (std::int64_t i = at; i < n; ++i) body.template run<1>(i);
    }
}

// body.run<N>(i) handles elements [i, i + N); packets start at multiples of kPacket.
template <class Body>
void for_elements(std::string_view what, std::int64_t n, const Body& body) {
    if (n == 0) return;
    const std::int64_t blocks = ceil_div(n, std::int64_t{kBlock} * kPacket);
    elementwise_kernel<<<static_cast<unsigned>(blocks), kBlock, 0, stream()>>>(n, body);
    launched(what);
}

// Grid-stride loop of a kernel with blocks of kBlock threads: body.operator()<N>(i) handles
// elements [i, i + N).
template <class Body>
__device__ inline void for_packets(std::int64_t n, Body&& body) {
    const std::int64_t stride = std::int64_t{gridDim.x} * kBlock * kPacket;
    std::int64_t at = (std::int64_t{blockIdx.x} * kBlock + threadIdx.x) * kPacket;
    for (; at + kPacket <= n; at += stride) body.template operator()<kPacket>(at);
    for (std::int64_t i = at; i < n; ++i) body.template operator()<1>(i);
}

// Blocks for such a kernel: no more than there is work for.
inline unsigned packet_blocks(std::int64_t n, std::int64_t most) {
    return static_cast<unsigned>(
        std::clamp<std::int64_t>(ceil_div(n, std::int64_t{kBlock} * kPacket), 1, most));
}

// Threads for a block that works on one row: enough for a packet each, whole warps.
inline unsigned row_threads(std::int64_t columns) {
    const std::int64_t wanted = ceil_div(columns, kPacket);
    return static_cast<unsigned>(
        std::clamp<std::int64_t>(ceil_div(wanted, kWarp) * kWarp, kWarp, 512));
}

}  // namespace octavo::cuda
