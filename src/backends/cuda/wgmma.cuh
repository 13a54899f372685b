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
#define OCTAVO_SUMS_0                                                                              \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),            \
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),    \
        "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), \
        "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), \
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), \
        "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), \
        "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), \
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), \
        "+f"(d[63])
#define OCTAVO_SUMS_64                                                                             \
    "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]),     \
        "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), \
        "+f"(d[78]), "+f"(d[79]), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), \
        "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), \
        "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), \
        "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), "+f"(d[104]),         \
        "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]),        \
        "+f"(d[111]), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]),        \
        "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]),        \
        "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

#define OCTAVO_WGMMA_N128(types)                                                \
    asm volatile(                                                               \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                            \
        "wgmma.mma_async.sync.aligned.m64n128k32.f32." types " {" OCTAVO_LIST_0 \
        "}, %64, %65, p, 1, 1;\n}\n"                                            \
        : OCTAVO_SUMS_0                                                         \
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))

#define OCTAVO_WGMMA_N256(shape_and_types, major)                                              \
    asm volatile(                                                                              \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                          \
        "wgmma.mma_async.sync.aligned." shape_and_types " {" OCTAVO_LIST_0 ", " OCTAVO_LIST_64 \
        "}, %128, %129, p, 1, 1" major ";\n}\n"                                                \
        : OCTAVO_SUMS_0, OCTAVO_SUMS_64                                                        \
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
#undef OCTAVO_SUMS_0
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
