// d (64, N) = a (64, K) b (N, K)^T [+ d]: operands in shared memory, FP32 sums in registers. K is
// 32 bytes deep: 16 elements of BF16, 32 codes of FP8.
//
// Lane l of warp w in the warpgroup holds in d[4 j + 2 h + i] the element
// (16 w + 8 h + l / 4, 8 j + 2 (l % 4) + i).
#pragma once

#include <cstdint>

namespace octavo::cuda::ptx {

enum class Types { bf16, e4m3_e4m3, e4m3_e5m2, e5m2_e4m3 };  // of a and b

// The instruction's name holds the types, its operands are single registers: macros, or the lists
// over and over.
#define OCTAVO_LIST_0                                                                  \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define OCTAVO_LIST_64                                                                             \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "   \
    "%127"
#define OCTAVO_SUMS_8(i)                                                                        \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define OCTAVO_SUMS_64(i)                                                                 \
    OCTAVO_SUMS_8(i), OCTAVO_SUMS_8(i + 8), OCTAVO_SUMS_8(i + 16), OCTAVO_SUMS_8(i + 24), \
        OCTAVO_SUMS_8(i + 32), OCTAVO_SUMS_8(i + 40), OCTAVO_SUMS_8(i + 48), OCTAVO_SUMS_8(i + 56)

#define OCTAVO_WGMMA_N128(types)                                                \
    asm volatile(                                                               \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                            \
        "wgmma.mma_async.sync.aligned.m64n128k32.f32." types " {" OCTAVO_LIST_0 \
        "}, %64, %65, p, 1, 1;\n}\n"                                            \
        : OCTAVO_SUMS_64(0)                                                     \
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))

#define OCTAVO_WGMMA_N256(shape_and_types, major)                                              \
    asm volatile(                                                                              \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                          \
        "wgmma.mma_async.sync.aligned." shape_and_types " {" OCTAVO_LIST_0 ", " OCTAVO_LIST_64 \
        "}, %128, %129, p, 1, 1" major ";\n}\n"                                                \
        : OCTAVO_SUMS_64(0), OCTAVO_SUMS_64(64)                                                \
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransA), "n"(kTransB))

template <Types kTypes>
__device__ inline void wgmma_m64n128k32(float (&d)[64], std::uint64_t a, std::uint64_t b,
                                        bool accumulate) {
    static_assert(kTypes != Types::bf16);
    if constexpr (kTypes == Types::e4m3_e4m3) {
        OCTAVO_WGMMA_N128("e4m3.e4m3");
    } else if constexpr (kTypes == Types::e4m3_e5m2) {
        OCTAVO_WGMMA_N128("e4m3.e5m2");
    } else {
        OCTAVO_WGMMA_N128("e5m2.e4m3");
    }
}

// kTransA, kTransB: M, N is the contiguous axis of the operand (BF16 only).
template <Types kTypes, int kTransA, int kTransB>
__device__ inline void wgmma_m64n256(float (&d)[128], std::uint64_t a, std::uint64_t b,
                                     bool accumulate) {
    static_assert(kTypes == Types::bf16 || (!kTransA && !kTransB));
    if constexpr (kTypes == Types::bf16) {
        OCTAVO_WGMMA_N256("m64n256k16.f32.bf16.bf16", ", %131, %132");
    } else if constexpr (kTypes == Types::e4m3_e4m3) {
        OCTAVO_WGMMA_N256("m64n256k32.f32.e4m3.e4m3", "");
    } else if constexpr (kTypes == Types::e4m3_e5m2) {
        OCTAVO_WGMMA_N256("m64n256k32.f32.e4m3.e5m2", "");
    } else {
        OCTAVO_WGMMA_N256("m64n256k32.f32.e5m2.e4m3", "");
    }
}
#undef OCTAVO_WGMMA_N256
#undef OCTAVO_WGMMA_N128
#undef OCTAVO_SUMS_64
#undef OCTAVO_SUMS_8
#undef OCTAVO_LIST_64
#undef OCTAVO_LIST_0

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit_group() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void wgmma_wait_group() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// An operand in the 128-byte swizzle, from a multiple of 1024 on.
//
// K-major: rows are 128 bytes of the reduction axis; groups of eight rows lie 1024 bytes apart (the
// stride field), the leading field is unused. k bytes further along the rows, it is larger by k/16.
//
// M- or N-major: 128 bytes are 64 elements of a column, columns follow each other along K, eight of
// them lie 1024 bytes apart (the stride field); the next 64 elements of all columns are
// `leading_bytes` further. k columns further along K, it is larger by 8 k.
__device__ inline std::uint64_t wgmma_descriptor(std::uint32_t address, int leading_bytes = 16) {
    constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
    constexpr std::uint64_t kStride = std::uint64_t{1024 >> 4} << 32;
    const std::uint64_t leading = static_cast<std::uint64_t>(leading_bytes >> 4) << 16;
    return kSwizzle128 | kStride | leading | ((address & 0x3FFFF) >> 4);
}

}  // namespace octavo::cuda::ptx
