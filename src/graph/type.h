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
    micro,          // one power of two per `group` elements of a row, under one scale per row
    expanded,       // an Expansion (base/expansion.h) per 128 elements, whatever row they are in
};
inline constexpr std::int64_t kScaleBlock = 128;  // elements along a side of a block

struct Scaling {
    Granularity granularity = Granularity::none;
    Dtype scale_dtype = Dtype::f32;  // f32, or e8m0 for power-of-two scales
    int group = 0;                   // micro only: 32, 64 or 128 elements of a row

    bool operator==(const Scaling&) const = default;
};

inline constexpr Scaling kUnscaled{};
inline constexpr Scaling kPerTensor{.granularity = Granularity::tensor};
inline constexpr Scaling kExpanded{.granularity = Granularity::expanded};

struct Type {
    Dtype dtype = Dtype::f32;
    Shape shape;
    Scaling scaling = kUnscaled;

    bool operator==(const Type&) const = default;
};

// Scales that belong to rows or parts of them: the transpose has others.
constexpr bool scales_along_rows(const Scaling& s) {
    return s.granularity == Granularity::row || s.granularity == Granularity::block_1x128 ||
           s.granularity == Granularity::micro;
}
// More than one scale for the whole tensor.
constexpr bool has_fine_scales(const Type& t) {
    return scales_along_rows(t.scaling) || t.scaling.granularity == Granularity::block_128x128 ||
           t.scaling.granularity == Granularity::expanded;
}

// Bytes of the codes, of the scales, and (micro only) of the E8M0 exponents per group. Padding
// scales are 0, padding exponents 127.
std::int64_t data_bytes(const Type&);
std::int64_t scale_count(const Type&);
std::int64_t scale_bytes(const Type&);
std::int64_t group_bytes(const Type&);

// Where scales and exponents lie, the same on all backends, as the GPU's products read them:
// cuBLASLt's VEC128 and BLK128x128 modes, and one word of exponents per row and 128 elements.
//     row, micro      [rows]
//     block_1x128     [ceil(last / 128)][rows rounded up to 4]
//     block_128x128   [ceil(rows / 128)][ceil(last / 128) rounded up to 4]
//     exponents       [ceil(last / 128)][rows rounded up to 128][128 / group]
//     expanded        [ceil(elements / 128)][3]
struct ScaleLayout {
    Granularity granularity = Granularity::none;
    std::int64_t pitch = 0;        // entries between neighbours of the slower dimension
    std::int64_t group_pitch = 0;  // bytes between neighbouring columns of 128 elements
    int group = 0;

    constexpr std::int64_t scale_at(std::int64_t row, std::int64_t column) const {
        switch (granularity) {
            case Granularity::row:
            case Granularity::micro:
                return row;
            case Granularity::block_1x128:
                return column / kScaleBlock * pitch + row;
            case Granularity::block_128x128:
                return row / kScaleBlock * pitch + column / kScaleBlock;
            default:
                return 0;
        }
    }
    constexpr std::int64_t group_at(std::int64_t row, std::int64_t column) const {
        return column / kScaleBlock * group_pitch + row * (kScaleBlock / group) +
               column % kScaleBlock / group;
    }
};
ScaleLayout scale_layout(const Type&);
// All of them, each part padded to kPartAlignment: what one buffer of this type takes.
inline constexpr std::int64_t kPartAlignment = 64;
std::int64_t total_bytes(const Type&);

// "bf16[1024, 768]", "e4m3[1024, 768] x tensor", "e4m3[64, 64] x micro(32)".
std::string to_string(const Scaling&);
std::string to_string(const Type&);

}  // namespace octavo
