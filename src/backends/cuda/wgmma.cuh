// d (64, 128) = a (64, 32) b (128, 32)^T [+ d]: FP8 codes in shared memory, FP32 sums in registers.
//
// Lane l of warp w in the warpgroup holds in d[4 j + 2 h + i] the element
// (16 w + 8 h + l / 4, 8 j + 2 (l % 4) + i).
#pragma once

#include <cstdint>

namespace octavo::cuda::ptx {

enum class Fp8 { e4m3_e4m3, e5m2_e4m3 };  // types of a and b

// The instruction's name holds the types: a macro, or the list of registers twice.
#define OCTAVO_WGMMA(types)                                                                       \
    asm volatile(                                                                                 \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                              \
        "wgmma.mma_async.sync.aligned.m64n128k32.f32." types                                      \
        " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "        \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "        \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "       \
        "%64, %65, p, 1, 1;\n}\n"                                                                 \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),     \
          "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), \
          "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),           \
          "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),           \
          "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),           \
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]),           \
          "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),           \
          "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),           \
          "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),           \
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]),           \
          "+f"(d[62]), "+f"(d[63])                                                                \
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))

template <Fp8 kTypes>
__device__ inline void wgmma_m64n128k32(float (&d)[64], std::uint64_t a, std::uint64_t b,
                                        bool accumulate) {
    if constexpr (kTypes == Fp8::e4m3_e4m3) {
        OCTAVO_WGMMA("e4m3.e4m3");
    } else {
        OCTAVO_WGMMA("e5m2.e4m3");
    }
}
#undef OCTAVO_WGMMA

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit_group() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void wgmma_wait_group() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// An operand whose rows are 128 bytes of the reduction axis in the 128-byte swizzle, from a
// multiple of 1024 on: groups of eight rows lie 1024 bytes apart (the stride field), the leading
// field is unused. k bytes further along the rows, it is larger by k / 16.
__device__ inline std::uint64_t wgmma_descriptor(std::uint32_t address) {
    constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
    constexpr std::uint64_t kStride = std::uint64_t{1024 >> 4} << 32;
    constexpr std::uint64_t kLeading = std::uint64_t{1} << 16;
    return kSwizzle128 | kStride | kLeading | ((address & 0x3FFFF) >> 4);
}

}  // namespace octavo::cuda::ptx
