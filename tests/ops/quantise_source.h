// The sources of fused quantisers with their operands.
#pragma once

#include "ops/delayed_quantise.h"
#include "ops/plain_test.h"

namespace octavo::test {

struct SourceCase {
    QuantiseSource of;
    // Operands: as many of the matrix's shape, then vectors over columns, then over rows.
    int matrices, columns = 0, rows = 0;
    std::optional<ScaleAlong> scaled{};  // one more
    bool joined = false;                 // two matrices, side by side

    std::vector<HostTensor> operands(Dtype dtype, const Shape& shape, std::uint64_t seed = 0,
                                     double sigma = 1) const {
        std::vector<HostTensor> in;
        const auto add = [&](int n, Dtype d, const Shape& s, double size) {
            for (int i = 0; i < n; ++i) in.push_back(random_tensor(d, s, ++seed, size));
        };
        const Dtype wide = accumulator(dtype);
        Shape wide_shape = shape;
        if (joined) wide_shape[-1] *= 2;
        add(matrices, dtype, wide_shape, sigma);
        add(columns, wide, {shape.last()}, 1);
        add(rows, wide, {shape.rows()}, 1);
        if (scaled) add(1, wide, {scaled->axis == Axis::row ? shape.rows() : shape.last()}, 1);
        return in;
    }
};

inline std::vector<SourceCase> source_cases() {
    using enum QuantiseSource;
    return {{swiglu, 2},
            {gelu, 1},
            {gelu_grad, 2},
            {swiglu_grad, 3},
            {joined_swiglu, 1, 0, 0, {}, true},
            {normalise, 1, 1, 1},   // of rms_norm
            {normalise, 1, 2, 2}};  // of layer_norm
}

// With factors of the last operand, too.
inline std::vector<SourceCase> scaled_source_cases() {
    using enum QuantiseSource;
    std::vector<SourceCase> cases;
    for (const Axis axis : {Axis::row, Axis::column}) {
        for (const bool inverse : {false, true}) {
            const ScaleAlong scaled{axis, inverse};
            cases.push_back({value, 1, 0, 0, scaled});
            cases.push_back({swiglu_grad, 3, 0, 0, scaled});
        }
    }
    cases.push_back({gelu_grad, 2, 0, 0, ScaleAlong{Axis::row}});
    return cases;
}

}  // namespace octavo::test
