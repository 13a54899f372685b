#include <array>
#include <cmath>

#include "backends/cpu/kernels.h"
#include "backends/cpu/scaling.h"
#include "base/cast_stats.h"
#include "base/convert.h"
#include "base/float8.h"

namespace octavo::cpu {
namespace {

// The sums of chunks are added in order: the result is the same for any number of threads.
constexpr std::int64_t kChunk = std::int64_t{1} << 14;

std::int64_t chunks(std::int64_t elements) { return (elements + kChunk - 1) / kChunk; }

// Of values under one factor.
CastTerms sum_terms(const float* x, const float* codes, std::int64_t n, double factor, double max) {
    double signal = 0, noise = 0;
    std::int64_t saturated = 0, flushed = 0, nonzero = 0;
    std::uint32_t amax = 0;
#pragma omp simd reduction(+ : signal, noise, saturated, flushed, nonzero) reduction(max : amax)
    for (std::int64_t i = 0; i < n; ++i) {
        const CastTerms t = cast_terms(x[i], codes[i], factor, max);
        signal += t.signal;
        noise += t.noise;
        saturated += t.saturated;
        flushed += t.flushed;
        nonzero += t.nonzero;
        amax = std::max(amax, t.amax);
    }
    return {signal, noise, saturated, flushed, nonzero, amax};
}

// A tensor and its codes.
struct Job {
    TensorRef x, y;
    ScaleLayout layout = scale_layout(y.type);
    std::int64_t columns = y.type.shape.last();
    // Neighbours in a row that share their factor, from a multiple of it on.
    std::int64_t run = layout.group ? layout.group : kScaleBlock;

    double factor(std::int64_t row, std::int64_t column) const {
        if (!y.scale) return 1;
        const double scale = y.scales()[layout.scale_at(row, column)];
        if (!y.groups) return scale;
        return scale * float(e8m0::from_bits(y.groups[layout.group_at(row, column)]));
    }

    // n elements of a row, within a block.
    void add(std::int64_t row, std::int64_t column, std::int64_t n, CastSums& sums) const {
        std::array<float, kScaleBlock> values, codes;
        const std::int64_t at = row * columns + column;
        dequantise(element(x, at), x.type.dtype, x.scale ? *x.scales() : 1.0f, values.data(),
                   Dtype::f32, n);
        convert(element(y, at), y.type.dtype, codes.data(), Dtype::f32, n);
        for (std::int64_t i = 0, end = 0; i < n; i = end) {
            end = std::min(n, i + run - (column + i) % run);
            const double f = factor(row, column + i);
            sums.add(sum_terms(values.data() + i, codes.data() + i, end - i, f,
                               max_value(y.type.dtype)));
            sums.note_factor(f);
        }
    }

    CastSums sum(std::int64_t begin, std::int64_t end) const {
        CastSums sums;
        for (std::int64_t at = begin, n = 0; at < end; at += n) {
            const std::int64_t row = at / columns, column = at % columns;
            n = std::min({kScaleBlock - column % kScaleBlock, columns - column, end - at});
            add(row, column, n, sums);
        }
        return sums;
    }
};

void measure(const KernelCall& call) {
    const Job job{call.in[0], call.in[1]};
    auto* const partial = reinterpret_cast<CastSums*>(call.scratch);
    const std::int64_t n = job.x.type.shape.elements(), count = chunks(n);
    parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            partial[i] = job.sum(i * kChunk, std::min(n, (i + 1) * kChunk));
        }
    });
    CastSums sums;
    for (std::int64_t i = 0; i < count; ++i) sums.add(partial[i]);
    *call.out[0].as<CastStats>() = cast_stats(sums, n, [](double x) { return std::sqrt(x); });
}

Prepared prepare(const NodeView& node) {
    return {measure,
            chunks(node.in[0].shape.elements()) * static_cast<std::int64_t>(sizeof(CastSums))};
}

}  // namespace

void register_measure_cast(KernelRegistry& registry) {
    registry.add<MeasureCast>({"measure_cast", takes_all, prepare});
}

}  // namespace octavo::cpu
