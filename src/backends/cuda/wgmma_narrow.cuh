// wgmma.cuh for a few columns: d (64, N) = a (64, 32) b (N, 32)^T [+ d], codes in E4M3, N = 16, 32
// or 64.
#pragma once

#include <cstdint>

#include "backends/cuda/wgmma.cuh"

namespace octavo::cuda::ptx {

#define OCTAVO_R8(x)                                                                            \
    "+f"(d[x]), "+f"(d[x + 1]), "+f"(d[x + 2]), "+f"(d[x + 3]), "+f"(d[x + 4]), "+f"(d[x + 5]), \
        "+f"(d[x + 6]), "+f"(d[x + 7])
#define OCTAVO_R16(x) OCTAVO_R8(x), OCTAVO_R8(x + 8)
#define OCTAVO_R32(x) OCTAVO_R16(x), OCTAVO_R16(x + 16)
#define OCTAVO_L8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define OCTAVO_L16 OCTAVO_L8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define OCTAVO_L32 \
    OCTAVO_L16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define OCTAVO_WGMMA(columns, list, registers, a_number, b_number, p_number)            \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" p_number                          \
                 ", 0;\n"                                                               \
                 "wgmma.mma_async.sync.aligned.m64n" columns "k32.f32.e4m3.e4m3 {" list \
                 "}, %" a_number ", %" b_number ", p, 1, 1;\n}\n"                       \
                 : registers                                                            \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))

template <int kColumns>
__device__ inline void wgmma_narrow(float (&d)[kColumns / 2], std::uint64_t a, std::uint64_t b,
                                    bool accumulate) {
    static_assert(kColumns == 16 || kColumns == 32 || kColumns == 64);
    if constexpr (kColumns == 16) {
        OCTAVO_WGMMA("16", OCTAVO_L8, OCTAVO_R8(0), "8", "9", "10");
    } else if constexpr (kColumns == 32) {
        OCTAVO_WGMMA("32", OCTAVO_L16, OCTAVO_R16(0), "16", "17", "18");
    } else {
        OCTAVO_WGMMA("64", OCTAVO_L32, OCTAVO_R32(0), "32", "33", "34");
    }
}

#undef OCTAVO_WGMMA
#undef OCTAVO_L32
#undef OCTAVO_L16
#undef OCTAVO_L8
#undef OCTAVO_R32
#undef OCTAVO_R16
#undef OCTAVO_R8

}  // namespace octavo::cuda::ptx
