#include "graph/type.h"

#include "base/expansion.h"

namespace octavo {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t round_up(std::int64_t n, std::int64_t to) { return ceil_div(n, to) * to; }

std::int64_t padded(std::int64_t bytes) { return round_up(bytes, kPartAlignment); }

// Blocks of 128 along the rows, and down the columns, of a matrix.
std::int64_t blocks_across(const Type& t) { return ceil_div(t.shape.last(), kScaleBlock); }
std::int64_t blocks_down(const Type& t) { return ceil_div(t.shape.rows(), kScaleBlock); }

}  // namespace

std::int64_t data_bytes(const Type& t) {
    return t.shape.elements() * static_cast<std::int64_t>(size_of(t.dtype));
}

std::int64_t scale_count(const Type& t) {
    switch (t.scaling.granularity) {
        case Granularity::none:
            return 0;
        case Granularity::tensor:
            return 1;
        case Granularity::row:
        case Granularity::micro:
            return t.shape.rows();
        case Granularity::block_1x128:
            return blocks_across(t) * scale_layout(t).pitch;
        case Granularity::block_128x128:
            return blocks_down(t) * scale_layout(t).pitch;
        case Granularity::expanded:
            return ceil_div(t.shape.elements(), kExpansionGroup) * 3;
    }
    return 0;
}

std::int64_t scale_bytes(const Type& t) {
    return scale_count(t) * static_cast<std::int64_t>(size_of(t.scaling.scale_dtype));
}

std::int64_t group_bytes(const Type& t) {
    if (t.scaling.granularity != Granularity::micro) return 0;
    return blocks_across(t) * scale_layout(t).group_pitch;
}

ScaleLayout scale_layout(const Type& t) {
    ScaleLayout layout{.granularity = t.scaling.granularity, .group = t.scaling.group};
    if (layout.granularity == Granularity::block_1x128) layout.pitch = round_up(t.shape.rows(), 4);
    if (layout.granularity == Granularity::block_128x128) {
        layout.pitch = round_up(blocks_across(t), 4);
    }
    if (layout.granularity == Granularity::micro) {
        layout.group_pitch = round_up(t.shape.rows(), kScaleBlock) * (kScaleBlock / layout.group);
    }
    return layout;
}

std::int64_t total_bytes(const Type& t) {
    return padded(data_bytes(t)) + padded(scale_bytes(t)) + padded(group_bytes(t));
}

std::string to_string(const Scaling& s) {
    const char* suffix = s.scale_dtype == Dtype::e8m0 ? ":e8m0" : "";
    switch (s.granularity) {
        case Granularity::none:
            return "none";
        case Granularity::tensor:
            return std::string("tensor") + suffix;
        case Granularity::row:
            return std::string("row") + suffix;
        case Granularity::block_1x128:
            return std::string("1x128") + suffix;
        case Granularity::block_128x128:
            return std::string("128x128") + suffix;
        case Granularity::micro:
            return fmt::format("micro({})", s.group);
        case Granularity::expanded:
            return "expanded";
    }
    return "?";
}

std::string to_string(const Type& t) {
    std::string s = fmt::format("{}{}", name(t.dtype), to_string(t.shape));
    if (t.scaling != kUnscaled) s += " x " + to_string(t.scaling);
    return s;
}

}  // namespace octavo
