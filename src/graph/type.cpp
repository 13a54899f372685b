#include "graph/type.h"

namespace octavo {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t padded(std::int64_t bytes) { return ceil_div(bytes, kPartAlignment) * kPartAlignment; }

}  // namespace

std::int64_t data_bytes(const Type& t) {
    return t.shape.elements() * static_cast<std::int64_t>(size_of(t.dtype));
}

std::int64_t scale_count(const Type& t) {
    switch (t.scaling.granularity) {
        case Granularity::none:
            return 0;
        case Granularity::tensor:
        case Granularity::micro:
            return 1;
        case Granularity::row:
            return t.shape.rows();
        case Granularity::block_1x128:
            return t.shape.rows() * ceil_div(t.shape.last(), 128);
        case Granularity::block_128x128:
            return ceil_div(t.shape.rows(), 128) * ceil_div(t.shape.last(), 128);
    }
    return 0;
}

std::int64_t scale_bytes(const Type& t) {
    return scale_count(t) * static_cast<std::int64_t>(size_of(t.scaling.scale_dtype));
}

std::int64_t group_bytes(const Type& t) {
    if (t.scaling.granularity != Granularity::micro) return 0;
    return t.shape.rows() * ceil_div(t.shape.last(), t.scaling.group);
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
    }
    return "?";
}

std::string to_string(const Type& t) {
    std::string s = fmt::format("{}{}", name(t.dtype), to_string(t.shape));
    if (t.scaling != kUnscaled) s += " x " + to_string(t.scaling);
    return s;
}

}  // namespace octavo
