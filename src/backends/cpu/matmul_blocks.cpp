// Products of operands under scales per row, block or group. `blocks` is the definition, to the
// last bit; `dequantised` gives up the order of the sums for oneDNN's speed.
#include <cmath>
#include <vector>

#include "backends/cpu/dequantise.h"
#include "backends/cpu/matmul.h"
#include "backends/matmul_dequantised.h"
#include "base/convert.h"
#include "base/scale_rule.h"

namespace octavo::cpu {
namespace {

// One operand as rows along K: codes as values, and where their scales are.
struct Lines {
    TensorRef t;
    ScaleLayout layout;
    std::vector<float> values;  // (lines, K)
    bool turned;                // 128x128 blocks of an operand that is stored along the lines

    Lines(const TensorRef& tensor, std::int64_t lines, std::int64_t k, bool along_k)
        : t(tensor), layout(scale_layout(tensor.type)), turned(!along_k) {
        std::vector<float> stored(static_cast<std::size_t>(lines * k));
        convert_parallel(t.data, t.type.dtype, stored.data(), Dtype::f32, lines * k);
        if (along_k) {
            values = std::move(stored);
            return;
        }
        values.resize(stored.size());
        for (std::int64_t i = 0; i < lines; ++i) {
            for (std::int64_t j = 0; j < k; ++j) values[i * k + j] = stored[j * lines + i];
        }
    }

    float scale(std::int64_t line, std::int64_t k) const {
        return t.scales()[turned ? layout.scale_at(k, line) : layout.scale_at(line, k)];
    }
    int exponent(std::int64_t line, std::int64_t k) const {
        return t.groups ? t.groups[layout.group_at(line, k)] : 127;
    }
};

// Sums over this many elements are promoted.
std::int64_t promoted(const NodeView& node, std::int64_t k) {
    for (const Type& t : node.in.first(2)) {
        if (t.scaling.granularity == Granularity::micro) return t.scaling.group;
        if (t.scaling.granularity == Granularity::row) return std::max<std::int64_t>(k, 1);
    }
    return kScaleBlock;
}

// The codes' products summed in f64, which is exact for E4M3.
float block_sum(const float* a, const float* b, std::int64_t n) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    return static_cast<float>(sum);
}

struct Product {
    const Lines &a, &b;
    std::int64_t k, step;
    bool scales_blocks;  // each block by its own scales, else the whole sum by its rows'

    float operator()(std::int64_t row, std::int64_t column) const {
        float acc = 0;
        for (std::int64_t at = 0; at < k; at += step) {
            const float sum = block_sum(&a.values[row * k + at], &b.values[column * k + at],
                                        std::min(step, k - at));
            if (scales_blocks) {
                acc += sum * (a.scale(row, at) * b.scale(column, at));
            } else {
                const int e = a.exponent(row, at) + b.exponent(column, at) - 127;
                const float power = e > 0 ? power_of_two(e - 127) : 0.0f;
                acc = std::fma(power, sum, acc);
            }
        }
        return scales_blocks ? acc : acc * a.scale(row, 0) * b.scale(column, 0);
    }
};

}  // namespace

Refusal reject_fine_scales(const NodeView& node) {
    for (const Type& t : node.in.first(2)) {
        if (has_fine_scales(t)) return "an operand has scales per row, block or group";
    }
    return std::nullopt;
}

Refusal reject_blocks(const NodeView& node) {
    if (reject_fine_scales(node)) return std::nullopt;
    return "no operand has scales per row, block or group";
}

Prepared prepare_blocks(const NodeView& node) {
    const auto op = std::get<Matmul>(node.op);
    const MatmulExtents e = matmul_extents(node);
    const std::int64_t step = promoted(node, e.k);
    const bool scales_blocks = node.in[0].scaling.granularity == Granularity::block_1x128 ||
                               node.in[1].scaling.granularity == Granularity::block_1x128;
    return dispatch_plain(op.out, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return Prepared{[=](const KernelCall& call) {
            const Lines a(call.in[0], e.m, e.k, !op.trans_a), b(call.in[1], e.n, e.k, op.trans_b);
            const Product product{a, b, e.k, step, scales_blocks};
            const T* acc = op.accumulate ? call.in[2].as<T>() : nullptr;
            T* c = call.out[0].as<T>();
            parallel_for(e.m, row_grain(e.n * e.k), [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = begin * e.n; i < end * e.n; ++i) {
                    const float y = product(i / e.n, i % e.n);
                    c[i] = from_f32<T>(acc ? y + to_f32(acc[i]) : y);
                }
            });
        }};
    });
}

Refusal reject_dequantised(const NodeView& node) {
    if (const Refusal plain = reject_blocks(node)) return plain;
    constexpr std::int64_t kFew = std::int64_t{1} << 18;
    const MatmulExtents e = matmul_extents(node);
    if (e.m * e.n * e.k < kFew) return "the product is small enough for the definition";
    if (node.out[0].dtype == Dtype::f64) return "the result is f64";
    return std::nullopt;
}

Prepared prepare_dequantised(const NodeView& node) {
    return prepare_matmul_dequantised(kernel_registry(), node, dequantise);
}

}  // namespace octavo::cpu
