// The type of a value: element type, shape, and where its scales sit.
//
// A scaled value is `data x scale`: its buffer holds codes, and beside it the scales that its
// Granularity asks for. Nothing else in Octavo says how a tensor is scaled.
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.h"
#include "base/shape.h"

namespace octavo {

enum class Granularity : std::uint8_t {
    none,           // plain values
    tensor,         // one scale
    row,            // one scale per row (all dimensions but the last)
    block_1x128,    // one scale per 128 consecutive elements of a row
    block_128x128,  // one scale per 128 x 128 tile of a matrix
    micro,          // one power of two per `group` elements of a row, under one scale per tensor
};

struct Scaling {
    Granularity granularity = Granularity::none;
    Dtype scale_dtype = Dtype::f32;  // f32, or e8m0 for power-of-two scales
    int group = 0;                   // micro only: 32, 64 or 128

    bool operator==(const Scaling&) const = default;
};

inline constexpr Scaling kUnscaled{};
inline constexpr Scaling kPerTensor{.granularity = Granularity::tensor};

struct Type {
    Dtype dtype = Dtype::f32;
    Shape shape;
    Scaling scaling = kUnscaled;

    bool operator==(const Type&) const = default;
};

// Bytes of the codes, of the scales, and (micro only) of the E8M0 exponents per group.
std::int64_t data_bytes(const Type&);
std::int64_t scale_count(const Type&);
std::int64_t scale_bytes(const Type&);
std::int64_t group_bytes(const Type&);
// All of them, each part padded to kPartAlignment: what one buffer of this type takes.
inline constexpr std::int64_t kPartAlignment = 64;
std::int64_t total_bytes(const Type&);

// "bf16[1024, 768]", "e4m3[1024, 768] x tensor", "e4m3[64, 64] x micro(32)".
std::string to_string(const Scaling&);
std::string to_string(const Type&);

}  // namespace octavo
