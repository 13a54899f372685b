#include "backends/cpu/scaling.h"

#include <cmath>
#include <limits>

#include "backends/cpu/kernels.h"
#include "base/convert.h"
#include "base/scale.h"

namespace octavo::cpu {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements a thread takes at least

// The largest of the amaxes that ranges of [0, n) give.
template <class RangeAmax>
float parallel_amax(std::int64_t n, RangeAmax&& range_amax) {
    SharedAmax top;
    parallel_for(n, kGrain,
                 [&](std::int64_t begin, std::int64_t end) { top.raise(range_amax(begin, end)); });
    return top.value();
}

}  // namespace

float tensor_amax(const TensorRef& x) {
    return parallel_amax(x.type.shape.elements(), [&](std::int64_t begin, std::int64_t end) {
        return amax(element(x, begin), x.type.dtype, end - begin);
    });
}

void quantise_tensor(const TensorRef& x, float scale, const TensorRef& y) {
    *y.scales() = scale;
    parallel_for(x.type.shape.elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
        quantise(element(x, begin), x.type.dtype, 1.0f / scale, element(y, begin), y.type.dtype,
                 end - begin);
    });
}

float quantise_tensor_amax(const TensorRef& x, float scale, const TensorRef& y) {
    *y.scales() = scale;
    return parallel_amax(x.type.shape.elements(), [&](std::int64_t begin, std::int64_t end) {
        return quantise_amax(element(x, begin), x.type.dtype, 1.0f / scale, element(y, begin),
                             y.type.dtype, end - begin);
    });
}

float next_scale(const ScaleRule& rule, float amax, float old) {
    return octavo::next_scale(amax, rule.to, rule.rounding, rule.margin, {old, 1.0f / old}).scale;
}

void note_amax(const TensorRef& history, float amax, const TensorRef& updated) {
    const float* from = history.as<float>();
    const float noted = std::isnan(amax) ? std::numeric_limits<float>::infinity() : amax;
    const float first = std::max(from[0], noted);
    std::copy_n(from, history.type.shape[0], updated.as<float>());
    updated.as<float>()[0] = first;
}

}  // namespace octavo::cpu
