// wgmma.cuh for a few columns: d (64, N) = a (64, K) b (N, K)^T [+ d], N = 16, 32, 64 or 128, both
// operands K-major.
#pragma once

#include <cstdint>

#include "backends/cuda/wgmma.cuh"

namespace octavo::cuda::ptx {

#define OCTAVO_R8(x)                                                                            \
    "+f"(d[x]), "+f"(d[x + 1]), "+f"(d[x + 2]), "+f"(d[x + 3]), "+f"(d[x + 4]), "+f"(d[x + 5]), \
        "+f"(d[x + 6]), "+f"(d[x + 7])
#define OCTAVO_R16(x) OCTAVO_R8(x), OCTAVO_R8(x + 8)
#define OCTAVO_R32(x) OCTAVO_R16(x), OCTAVO_R16(x + 16)
#define OCTAVO_R64(x) OCTAVO_R32(x), OCTAVO_R32(x + 32)
#define OCTAVO_L8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define OCTAVO_L16 OCTAVO_L8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define OCTAVO_L32 \
    OCTAVO_L16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define OCTAVO_L64                                                                  \
    OCTAVO_L32                                                                      \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, " \
    "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "   \
    "%62, %63"
// `a` to `p`: the numbers of the operands after the sums.
#define OCTAVO_WGMMA(shape, tail, list, registers, a_number, b_number, p_number)                \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" p_number                                  \
                 ", 0;\n"                                                                       \
                 "wgmma.mma_async.sync.aligned." shape " {" list "}, %" a_number ", %" b_number \
                 ", p, 1, 1" tail ";\n}\n"                                                      \
                 : registers                                                                    \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))
#define OCTAVO_WGMMA_NARROW(k_and_types, tail)                                                  \
    if constexpr (kColumns == 16) {                                                             \
        OCTAVO_WGMMA("m64n16" k_and_types, tail, OCTAVO_L8, OCTAVO_R8(0), "8", "9", "10");      \
    } else if constexpr (kColumns == 32) {                                                      \
        OCTAVO_WGMMA("m64n32" k_and_types, tail, OCTAVO_L16, OCTAVO_R16(0), "16", "17", "18");  \
    } else if constexpr (kColumns == 64) {                                                      \
        OCTAVO_WGMMA("m64n64" k_and_types, tail, OCTAVO_L32, OCTAVO_R32(0), "32", "33", "34");  \
    } else {                                                                                    \
        OCTAVO_WGMMA("m64n128" k_and_types, tail, OCTAVO_L64, OCTAVO_R64(0), "64", "65", "66"); \
    }

template <bool kFp8, int kColumns>
__device__ inline void wgmma_narrow(float (&d)[kColumns / 2], std::uint64_t a, std::uint64_t b,
                                    bool accumulate) {
    static_assert(kColumns == 16 || kColumns == 32 || kColumns == 64 || kColumns == 128);
    if constexpr (kFp8) {
        OCTAVO_WGMMA_NARROW("k32.f32.e4m3.e4m3", "")
    } else {
        OCTAVO_WGMMA_NARROW("k16.f32.bf16.bf16", ", 0, 0")
    }
}

#undef OCTAVO_WGMMA_NARROW
#undef OCTAVO_WGMMA
#undef OCTAVO_L64
#undef OCTAVO_L32
#undef OCTAVO_L16
#undef OCTAVO_L8
#undef OCTAVO_R64
#undef OCTAVO_R32
#undef OCTAVO_R16
#undef OCTAVO_R8

}  // namespace octavo::cuda::ptx
