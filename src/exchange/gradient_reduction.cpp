#include "exchange/gradient_reduction.h"

#include <algorithm>
#include <cmath>

#include "base/convert.h"
#include "base/error.h"
#include "exchange/shards.h"

namespace octavo {
namespace {

template <class T>
std::int64_t elements_of(std::span<const std::vector<T>> ranks) {
    check(!ranks.empty(), "exchange: expected a tensor of at least one rank, got none");
    for (const std::vector<T>& x : ranks) {
        check(x.size() == ranks[0].size(),
              "exchange: expected the same number of elements on all ranks, got {} and {}",
              ranks[0].size(), x.size());
    }
    return std::ssize(ranks[0]);
}

std::vector<e4m3> codes_of(std::span<const float> x, float inv_scale) {
    std::vector<e4m3> codes(x.size());
    quantise(x.data(), Dtype::f32, inv_scale, codes.data(), Dtype::e4m3, std::ssize(x));
    return codes;
}

Scale scale_of(float amax, const Scale& old) {
    return next_scale(amax, Dtype::e4m3, ScaleRounding::pow2, 0, old);
}

}  // namespace

SentGradient cast_gradients(std::span<const std::vector<float>> g, const Scale& old, float mu) {
    elements_of(g);
    float top = 0;
    for (const std::vector<float>& x : g) {
        const float local = amax(x.data(), Dtype::f32, std::ssize(x));
        top = std::max(top, std::isnan(local) ? INFINITY : local);  // max would lose a NaN
    }
    if (std::isinf(top)) return {.scale = old, .finite = false, .codes = {}};
    SentGradient sent{.scale = scale_of(top, old), .codes = {}};
    const float inv_scale = sent.scale.inv_scale * mu;
    // f64 holds the product: N k may leave f32's range.
    sent.mean_scale =
        static_cast<float>(1.0 / (static_cast<double>(g.size()) * static_cast<double>(inv_scale)));
    for (const std::vector<float>& x : g) sent.codes.push_back(codes_of(x, inv_scale));
    return sent;
}

std::vector<float> exact_sum(std::span<const std::vector<e4m3>> codes) {
    std::vector<float> sum(static_cast<std::size_t>(elements_of(codes)));
    for (std::size_t i = 0; i < sum.size(); ++i) {
        sum[i] = static_cast<float>(codes[0][i]);
        for (const auto& rank : codes.subspan(1)) sum[i] += static_cast<float>(rank[i]);
    }
    return sum;
}

std::vector<float> exact_mean(const SentGradient& sent) {
    std::vector<float> mean = exact_sum(sent.codes);
    for (float& x : mean) x *= sent.mean_scale;
    return mean;
}

GatheredGradient gather_fp8(std::span<const float> mean, const Scale& sent) {
    const Scale scale = scale_of(amax(mean.data(), Dtype::f32, std::ssize(mean)), sent);
    return {scale, codes_of(mean, scale.inv_scale)};
}

std::vector<bf16> gather_bf16(std::span<const float> mean) {
    std::vector<bf16> out(mean.size());
    std::ranges::transform(mean, out.begin(), [](float x) { return bf16(x); });
    return out;
}

std::vector<e4m3> ring_sum(std::span<const std::vector<e4m3>> codes) {
    const std::int64_t n = elements_of(codes);
    const int ranks = static_cast<int>(codes.size());
    std::vector<e4m3> sum(static_cast<std::size_t>(n));
    for (int j = 0; j < ranks; ++j) {
        const Shard part = shard(n, ranks, j);
        const auto rank = [&](int hop) { return static_cast<std::size_t>((j + 1 + hop) % ranks); };
        for (auto i = static_cast<std::size_t>(part.begin); i < static_cast<std::size_t>(part.end);
             ++i) {
            e4m3 acc = codes[rank(0)][i];
            for (int hop = 1; hop < ranks; ++hop) {
                acc = e4m3(static_cast<float>(acc) + static_cast<float>(codes[rank(hop)][i]));
            }
            sum[i] = acc;
        }
    }
    return sum;
}

}  // namespace octavo
