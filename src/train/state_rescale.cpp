#include "train/state_rescale.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/float16.h"
#include "base/float8.h"
#include "base/parallel.h"
#include "base/power.h"
#include "base/stochastic.h"

namespace octavo {
namespace {

// Of DynamicRescale.
constexpr int kFurthestDown = 14;
// Scales of products and gradients are sums of a few of these, and a graph is refused whose scales
// leave 2^-126 to 2^127: a tensor that dies out must not end the run.
constexpr int kLargest = 40;

bool saturates(Dtype d) { return is_fp8(d) || d == Dtype::f16; }

float smallest_code(Dtype d) {
    return d == Dtype::f16    ? min_subnormal<f16>()
           : d == Dtype::e4m3 ? min_subnormal<e4m3>()
                              : min_subnormal<e5m2>();
}

bool has_scale(const State& state, const std::string& name) {
    return state.contains(name) && state.at(name).type.scaling == kPerTensor;
}

// A bound of what is under 2^e now, whose power of two that is.
float bound_of(const TensorSize& size, int e) {
    const auto data = static_cast<float>(std::ldexp(size.l2, -e));
    return power_of_two(e) * std::clamp(data, 1.0f, 0x1.fffffep0f);
}

// Rounding may take no second moment to 0 (AdamW::v_floor).
void raise_to(std::vector<float>& values, float floor) {
    for (float& v : values) {
        if (v > 0) v = std::max(v, floor);
    }
}

}  // namespace

// In chunks that do not depend on the number of threads.
TensorSize tensor_size(std::span<const float> values) {
    constexpr std::int64_t kChunk = 1 << 16;
    const std::int64_t n = std::ssize(values), chunks = (n + kChunk - 1) / kChunk;
    std::vector<TensorSize> parts(static_cast<std::size_t>(chunks));
    parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c) {
            TensorSize& part = parts[static_cast<std::size_t>(c)];
            const std::int64_t stop = std::min(n, (c + 1) * kChunk);
            for (std::int64_t i = c * kChunk; i < stop; ++i) {
                const float x = values[static_cast<std::size_t>(i)];
                part.l2 += double{x} * x;
                part.amax = std::max(part.amax, std::abs(x));
            }
        }
    });
    TensorSize all;
    for (const TensorSize& part : parts) {
        all.l2 += part.l2;
        all.amax = std::max(all.amax, part.amax);
    }
    if (n > 0) all.l2 = std::sqrt(all.l2 / static_cast<double>(n));
    return all;
}

int rescaled_exponent(const TensorSize& size, Dtype dtype, int old) {
    if (!std::isfinite(size.l2) || size.l2 == 0) return old;
    int e = std::max(std::ilogb(size.l2), old - kFurthestDown);
    if (saturates(dtype)) e = std::max(e, -pow2_exponent(size.amax, dtype));
    return std::clamp(e, -kLargest, kLargest);
}

Exponents rescale_weights(State& state, const StepOptions& o) {
    const Propagation& propagation = *o.recipe.propagation;
    Exponents exponents;
    ValueReader values(state);
    for (const Parameter& p : parameters(o.architecture)) {
        const int initial = size_exponent(p.init, p.sigma);
        const int old = propagation.exponent_of(p.name, initial);
        const std::span<const float> w = values.read(p.name);
        const int e = rescaled_exponent(tensor_size(w), state.at(p.name).type.dtype, old);
        if (e != old && has_scale(state, p.name)) write_values_under(state, p.name, w, e);
        if (e != initial) exponents[p.name] = e;
    }
    return exponents;
}

void rescale_moments(State& state, const StepOptions& o) {
    for (const Parameter& p : parameters(o.architecture)) {
        const std::string name = moment_bounds_name(p.name);
        if (!state.contains(name)) continue;
        float bounds[2];
        state.read(name, bounds);
        for (const int k : {0, 1}) {
            const std::string moment = (k == 0 ? "adam.m/" : "adam.v/") + p.name;
            const float old = floor_power(bounds[k]);
            if (!has_scale(state, moment) || !is_finite(old) || old == 0) continue;
            const Dtype dtype = state.at(moment).type.dtype;
            std::vector<float> values = read_values(state, moment);
            const TensorSize size = tensor_size(values);
            if (size.l2 == 0) continue;
            const int e = rescaled_exponent(size, dtype, exponent_of(old));
            if (k == 1 && o.adamw.v_floor) raise_to(values, power_of_two(e) * smallest_code(dtype));
            write_values_under(state, moment, values, e);
            bounds[k] = bound_of(size, e);
        }
        state.write(name, bounds);
    }
}

std::string to_text(const Exponents& exponents) {
    std::string text;
    for (const auto& [name, e] : exponents) {
        text += fmt::format("{}{}={}", text.empty() ? "" : ",", name, e);
    }
    return text;
}

Exponents exponents_in(const std::map<std::string, std::string>& extra) {
    Exponents exponents;
    const auto found = extra.find(kExponents);
    if (found == extra.end()) return exponents;
    std::string_view rest = found->second;
    while (!rest.empty()) {
        const std::string_view entry = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
        const std::size_t equals = std::min(entry.rfind('='), entry.size());
        int e = kLargest + 1;
        const char* const end = entry.data() + entry.size();
        const bool whole = equals + 1 < entry.size() &&
                           std::from_chars(entry.data() + equals + 1, end, e).ptr == end;
        check(whole && std::abs(e) <= kLargest, "{}: expected name=exponent, got '{}'", kExponents,
              entry);
        exponents.emplace(entry.substr(0, equals), e);
    }
    return exponents;
}

}  // namespace octavo
