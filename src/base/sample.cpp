#include "base/sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "base/sample_rule.h"

namespace octavo {
namespace {

// Logits over the temperature, and how much of the distribution each of them is.
class Row {
  public:
    Row(std::span<const float> logits, float temperature, float max)
        : logits_(logits), temperature_(temperature), max_(max) {}

    std::int32_t size() const { return static_cast<std::int32_t>(logits_.size()); }
    float z(std::int32_t id) const { return logits_[static_cast<std::size_t>(id)] / temperature_; }
    std::uint32_t key(std::int32_t id) const { return order_key(z(id)); }
    Mass mass(std::int32_t id, const Cut& cut) const {
        const float at = z(id);
        const Mass mass = mass_of(at, max_);
        return cut.keeps(order_key(at), id) ? mass : 0;
    }
    Mass mass_of_key(std::uint32_t key) const { return mass_of(logit_of(key), max_); }

    Mass sum(std::int32_t begin, std::int32_t end, const Cut& cut) const {
        Mass sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int32_t id = begin; id < end; ++id) sum += mass(id, cut);
        return sum;
    }

    // Found digit by digit: `mass_at(id)` is added up for each digit that the key can go on with.
    template <class MassAt>
    Border border(Mass limit, MassAt&& mass_at) const {
        Border border;
        for (int shift = 24; shift >= 0; shift -= 8) {
            std::array<Mass, 256> sums{};
            for (std::int32_t id = 0; id < size(); ++id) {
                const std::uint32_t digit = (key(id) ^ border.key) >> shift;
                if (digit < sums.size()) sums[digit] += mass_at(id);
            }
            std::uint32_t digit = 255;
            while (digit > 0 && border.above + sums[digit] < limit) border.above += sums[digit--];
            border.key |= digit << shift;
        }
        return border;
    }

    Cut cut(std::int32_t top_k, float top_p) const {
        Cut cut;
        if (top_k > 0 && top_k < size()) {
            cut.key = border(static_cast<Mass>(top_k), [](std::int32_t) { return Mass{1}; }).key;
        }
        if (!(top_p < 1)) return cut;
        const Mass limit = top_p_limit(top_p, sum(0, size(), cut));
        const Border least = border(limit, [&](std::int32_t id) { return mass(id, cut); });
        const Mass ties = least.ties(limit, mass_of_key(least.key));
        cut = {least.key, -1};
        for (Mass found = 0; found < ties; ++cut.last) found += key(cut.last + 1) == cut.key;
        return cut;
    }

    float log_probability(std::int32_t id, const Cut& cut, Mass total) const {
        if (id >= size() || !cut.keeps(key(id), id)) return -std::numeric_limits<float>::infinity();
        const double relative = static_cast<double>(z(id)) - static_cast<double>(max_);
        const double sum = static_cast<double>(total) * kMassUnit;
        return static_cast<float>(relative - std::log(sum));
    }

  private:
    std::span<const float> logits_;
    float temperature_, max_;
};

// The masses of a row in blocks, so that a token is sought in one of them only.
class Masses {
  public:
    Masses(const Row& row, const Cut& cut) : row_(row), cut_(cut) {
        for (std::int32_t id = 0; id < row.size(); id += kBlock) {
            sums_.push_back(row.sum(id, std::min(id + kBlock, row.size()), cut));
            total_ += sums_.back();
        }
    }

    Mass total() const { return total_; }

    // The first id whose running sum exceeds `target`, which is less than the total.
    std::int32_t find(Mass target) const {
        std::size_t block = 0;
        while (sums_[block] <= target) target -= sums_[block++];
        auto id = static_cast<std::int32_t>(block) * kBlock;
        for (;; ++id) {
            const Mass mass = row_.mass(id, cut_);
            if (mass > target) return id;
            target -= mass;
        }
    }

  private:
    static constexpr std::int32_t kBlock = 1024;
    const Row& row_;
    const Cut& cut_;
    std::vector<Mass> sums_;
    Mass total_ = 0;
};

}  // namespace

std::uint32_t sample_bits(std::uint64_t seed, std::uint64_t request, std::uint32_t sample,
                          std::uint32_t position) {
    return philox(seed, request, std::uint64_t{sample} << 32 | position)[0];
}

Drawn draw(std::span<const float> logits, const Draw& how) {
    const auto n = static_cast<std::int32_t>(logits.size());
    std::uint64_t best = 0;
#pragma omp simd reduction(max : best)
    for (std::int32_t id = 0; id < n; ++id) {
        best = std::max(best, ranked(logits[static_cast<std::size_t>(id)], id));
    }
    const bool greedy = how.temperature == 0;
    const float temperature = greedy ? 1 : how.temperature;
    const float max = ranked_logit(best) / temperature;
    if (!(temperature > 0) || !is_finite(max)) {
        return {-1, std::numeric_limits<float>::quiet_NaN()};
    }
    const Row row(logits, temperature, max);
    const Cut cut = greedy ? Cut{} : row.cut(how.top_k, how.top_p);
    const Masses masses(row, cut);
    const Mass total = masses.total();
    const std::int32_t token = how.given >= 0 ? how.given
                               : greedy       ? ranked_id(best)
                                              : masses.find(draw_target(how.random, total));
    return {token, row.log_probability(token, cut, total)};
}

}  // namespace octavo
