// Element-wise conversion between the float dtypes: f64, f32, bf16, f16, e4m3, e5m2 (any other
// dtype throws Error). Casts follow float16.h and float8.h, with one rounding. Single-threaded but
// for parallel_convert; callers cut the work with parallel_for. Buffers need no alignment and must
// not overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace octavo {

void convert(const void* src, Dtype from, void* dst, Dtype to, std::int64_t n);

// Throws Error unless both spans hold the same whole number of elements.
void convert(std::span<const std::byte> src, Dtype from, std::span<std::byte> dst, Dtype to);

// The same bits, by all cores: for whole tensors.
void parallel_convert(std::span<const std::byte> src, Dtype from, std::span<std::byte> dst,
                      Dtype to);

// dst = cast(value * inv_scale), the product in f32, rounded to nearest even.
void quantise(const void* src, Dtype from, float inv_scale, void* dst, Dtype to, std::int64_t n);

// max |x| as f32: 0 for n = 0; NaN if any element is NaN, else infinity if any is infinite.
float amax(const void* src, Dtype from, std::int64_t n);

// quantise, and the amax of the source (before scaling), in one pass over memory.
float quantise_amax(const void* src, Dtype from, float inv_scale, void* dst, Dtype to,
                    std::int64_t n);

// dst = cast(code * scale): the same arithmetic as quantise, under the name that says which way.
inline void dequantise(const void* src, Dtype from, float scale, void* dst, Dtype to,
                       std::int64_t n) {
    quantise(src, from, scale, dst, to, n);
}

}  // namespace octavo
