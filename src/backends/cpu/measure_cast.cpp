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
constexpr std::int64_t kRun = kScaleBlock;  // elements looked at together

std::int64_t chunks(std::int64_t elements) { return (elements + kChunk - 1) / kChunk; }

// A tensor and its codes.
struct Job {
    TensorRef x, y;
    ScaleLayout layout = scale_layout(y.type);
    std::int64_t columns = y.type.shape.last();
    // Neighbours in a row that share their factor, from a multiple of it on.
    std::int64_t run = layout.group ? layout.group : kRun;

    double factor(std::int64_t row, std::int64_t column) const {
        if (!y.scale) return 1;
        const double scale = y.scales()[layout.scale_at(row, column)];
        if (!y.groups) return scale;
        return scale * float(e8m0::from_bits(y.groups[layout.group_at(row, column)]));
    }

    void add(std::int64_t at, std::int64_t n, double factor, CastSums& sums) const {
        std::array<float, kRun> values, codes;
        dequantise(element(x, at), x.type.dtype, x.scale ? *x.scales() : 1.0f, values.data(),
                   Dtype::f32, n);
        convert(element(y, at), y.type.dtype, codes.data(), Dtype::f32, n);
        const double max = max_value(y.type.dtype);
        for (std::int64_t i = 0; i < n; ++i) {
            const auto k = static_cast<std::size_t>(i);
            sums.add(values[k], codes[k], factor, max);
        }
        sums.note_factor(factor);
    }

    CastSums sum(std::int64_t begin, std::int64_t end) const {
        CastSums sums;
        for (std::int64_t at = begin; at < end;) {
            const std::int64_t row = at / columns, column = at % columns;
            const std::int64_t n = std::min({run - column % run, columns - column, end - at});
            add(at, n, factor(row, column), sums);
            at += n;
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
