// Scales per row, block and group element by element, as the methods define them; shares nothing
// with the kernels but the layout.
#pragma once

#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "base/codec_reference.h"
#include "ops/scaling_test.h"

namespace octavo::test {

// The elements that share an element's scale: [row, row_end) x [column, column_end).
struct Region {
    std::int64_t row, row_end, column, column_end;
};

inline Region region_of(const Type& t, bool global, std::int64_t row, std::int64_t column) {
    const std::int64_t rows = t.shape.rows(), columns = t.shape.last();
    const auto block = [](std::int64_t at, std::int64_t size, std::int64_t end) {
        return std::pair{at / size * size, std::min(at / size * size + size, end)};
    };
    switch (t.scaling.granularity) {
        case Granularity::block_1x128: {
            const auto [first, last] = block(column, 128, columns);
            return {row, row + 1, first, last};
        }
        case Granularity::block_128x128: {
            const auto [first, last] = block(column, 128, columns);
            const auto [top, bottom] = block(row, 128, rows);
            return {top, bottom, first, last};
        }
        default:
            if (global) return {0, rows, 0, columns};
            return {row, row + 1, 0, columns};
    }
}

// NaN if anything in it is not finite.
inline float amax_of(const HostTensor& x, const Region& r) {
    float top = 0;
    for (std::int64_t i = r.row; i < r.row_end; ++i) {
        for (std::int64_t j = r.column; j < r.column_end; ++j) {
            const auto at = static_cast<std::size_t>(i * x.type.shape.last() + j);
            const float v = std::abs(static_cast<float>(x.values[at]));
            if (!std::isfinite(v)) return std::numeric_limits<float>::quiet_NaN();
            top = std::max(top, v);
        }
    }
    return top;
}

// The smallest power of two with max * 2^e >= a.
inline float pow2_scale(float a, float max) {
    int e = -140;
    while (std::ldexp(static_cast<double>(max), e) < static_cast<double>(a)) ++e;
    return std::ldexp(1.0f, e);
}

// ceil(log2(group / whole)) for two positive numbers of which the first may be subnormal, when its
// exponent counts as that of the smallest normal number, 2^-126, halved.
inline int exponent_of(float group, float whole) {
    const auto fields = [](float x) {
        const std::uint32_t b = std::bit_cast<std::uint32_t>(x);
        return std::pair{static_cast<int>(b >> 23), b & 0x7FFFFF};
    };
    const auto [ge, gm] = fields(group);
    const auto [we, wm] = fields(whole);
    if (ge == 0) return std::max(-126, ge - we + (gm > wm ? 1 : 0));
    int n = -300;
    while (std::ldexp(static_cast<double>(whole), n) < static_cast<double>(group)) ++n;
    return std::max(-126, n);
}

// Of elements with this amax, NaN if one is not finite: a', the scale and what they are multiplied
// by.
struct OracleFactors {
    float a, scale, inv_scale;
};

inline OracleFactors oracle_factors(const BlockQuantise& op, float amax) {
    const float max = op.to == Dtype::e4m3 ? 448.0f : 57344.0f;
    const bool te = op.rule == BlockRule::te;
    const float a = te ? amax : std::max(amax, op.floor);
    if (std::isnan(amax)) {
        const float poison = std::bit_cast<float>(0x7fc00000);
        return {a, poison, poison};
    }
    if (te && amax == 0) return {a, 1, 1};
    if (te && op.rounding == ScaleRounding::exact) {
        const float inv_scale = std::min(max / a, std::numeric_limits<float>::max());
        return {a, 1.0f / inv_scale, inv_scale};
    }
    float scale = op.rounding == ScaleRounding::exact ? a / max : pow2_scale(a, max);
    if (te) scale = std::max(scale, 0x1p-126f);
    return {a, scale, 1.0f / scale};
}

inline HostTensor block_quantise_oracle(const BlockQuantise& op, const HostTensor& x) {
    HostTensor y{{op.to, x.type.shape, op.scaling}, std::vector<double>(x.values.size()), {}};
    y.codes.resize(x.values.size());
    y.scales.assign(static_cast<std::size_t>(scale_count(y.type)), 0.0f);
    y.groups.assign(static_cast<std::size_t>(group_bytes(y.type)), 127);
    const ScaleLayout layout = scale_layout(y.type);
    CodecReference codec = op.to == Dtype::e4m3 ? e4m3_reference() : e5m2_reference();
    const std::int64_t rows = x.type.shape.rows(), columns = x.type.shape.last();
    std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, float> known;
    const auto amax_once = [&](const Region& r) {
        const auto [it, fresh] = known.try_emplace({r.row, r.column, r.column_end}, 0.0f);
        if (fresh) it->second = amax_of(x, r);
        return it->second;
    };
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
            const auto at = static_cast<std::size_t>(i * columns + j);
            const float amax = amax_once(region_of(y.type, op.global, i, j));
            const auto [a, scale, inv_scale] = oracle_factors(op, amax);
            y.scales[static_cast<std::size_t>(layout.scale_at(i, j))] = scale;
            int n = 0;
            if (!y.groups.empty() && !std::isnan(amax)) {
                const std::int64_t g = op.scaling.group, first = j / g * g;
                const Region group{i, i + 1, first, std::min(first + g, columns)};
                n = exponent_of(amax_of(x, group), a);
            }
            if (!y.groups.empty()) {
                y.groups[static_cast<std::size_t>(layout.group_at(i, j))] =
                    static_cast<std::uint8_t>(127 + n);
            }
            const float t = std::ldexp(static_cast<float>(x.values[at]), -n) * inv_scale;
            const int code = codec.cast(static_cast<double>(t));
            y.codes[at] = static_cast<std::byte>(code);
            y.values[at] = codec.value(code) * y.factor(static_cast<std::int64_t>(at));
        }
    }
    return y;
}

}  // namespace octavo::test
