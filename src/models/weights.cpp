#include "models/weights.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>

#include "base/convert.h"
#include "base/file.h"
#include "base/parallel.h"
#include "models/experts.h"
#include "models/stored_weights.h"

namespace octavo {
namespace {

// Memory for one tensor after another, as large as the largest so far. Not zeroed, and so not
// touched before all cores write to it.
template <class T>
class Room {
  public:
    std::span<T> take(std::size_t n) {
        if (n > size_) {
            memory_.reset();  // first: both need not fit
            memory_ = std::make_unique_for_overwrite<T[]>(n);
            size_ = n;
        }
        return {memory_.get(), n};
    }

  private:
    std::unique_ptr<T[]> memory_;
    std::size_t size_ = 0;
};

// Announces weights to the disk as far ahead of the one at hand as keeps it busy: across tensors
// and shards, in the order in which they are wanted.
class Announcer {
  public:
    explicit Announcer(std::span<const StoredWeight> weights) : weights_(weights) {}

    void at(std::size_t i) {
        constexpr std::size_t kAhead = 256 << 20;
        for (; next_ < weights_.size() && (next_ <= i || ahead_ < kAhead); ++next_) {
            announce(weights_[next_].tensor.bytes);
            ahead_ += weights_[next_].tensor.bytes.size();
        }
        ahead_ -= weights_[i].tensor.bytes.size();
    }

  private:
    std::span<const StoredWeight> weights_;
    std::size_t next_ = 0, ahead_ = 0;  // bytes between the one at hand and `next_`
};

class Loader {
  public:
    // One matrix, or several, one after the other.
    void load(std::span<const StoredWeight> weights, const WeightTarget& target) {
        const StoredWeight& first = weights[0];
        if (weights.size() == 1 && !first.scale && first.tensor.dtype == target.dtype) {
            return target.write(first.tensor.bytes);
        }
        const std::size_t n = static_cast<std::size_t>(target.shape.elements()) / weights.size();
        const std::span<std::byte> host = host_.take(weights.size() * n * size_of(target.dtype));
        std::span<std::byte> to = host;
        for (const StoredWeight& w : weights) {
            const std::span<std::byte> matrix = to.first(n * size_of(target.dtype));
            if (w.scale) {
                const std::span<float> values = values_.take(n);
                w.read(values);
                parallel_convert(std::as_bytes(values), Dtype::f32, matrix, target.dtype);
            } else {
                parallel_convert(w.tensor.bytes, w.tensor.dtype, matrix, target.dtype);
            }
            to = to.subspan(matrix.size());
        }
        target.write(host);
    }

  private:
    Room<std::byte> host_;
    Room<float> values_;
};

}  // namespace

void check_finite(const WeightTarget& target, std::span<const std::byte> values) {
    const auto size = static_cast<std::int64_t>(size_of(target.dtype));
    const std::int64_t n = std::ssize(values) / size;
    constexpr std::int64_t kGrain = 1 << 20;
    const auto finite = [&](std::int64_t at, std::int64_t count) {
        return std::isfinite(amax(values.data() + at * size, target.dtype, count));
    };
    std::atomic<std::int64_t> first = n;  // element of a grain with damage
    parallel_for((n + kGrain - 1) / kGrain, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t at = begin * kGrain; at < std::min(n, end * kGrain); at += kGrain) {
            if (finite(at, std::min(kGrain, n - at))) continue;
            std::int64_t known = first;
            while (at < known && !first.compare_exchange_weak(known, at)) {
            }
        }
    });
    std::int64_t at = first;
    while (at < n && finite(at, 1)) ++at;
    if (at == n) return;
    fail(
        "'{}': element {} is {}\n  The weights are damaged, or training has diverged; nothing can "
        "be computed with them.",
        target.name, at,
        std::isnan(amax(values.data() + at * size, target.dtype, 1)) ? "NaN" : "infinite");
}

void load_weights(const std::filesystem::path& folder, std::span<const WeightTarget> targets) {
    const StoredWeights stored(folder);
    std::vector<StoredWeights::Expected> expected;
    for (const WeightTarget& target : targets) {
        for (StoredParameter& p : stored_parameters(target.name, target.shape)) {
            expected.push_back({std::move(p.name), {target.dtype, p.shape}});
        }
    }
    const std::vector<StoredWeight> all = stored.match(expected);
    Announcer announcer(all);
    Loader loader;
    std::size_t at = 0;
    for (const WeightTarget& target : targets) {
        const bool stack = is_expert_stack(target.name, target.shape);
        const std::size_t n = stack ? static_cast<std::size_t>(target.shape[0]) : 1;
        for (std::size_t i = at; i < at + n; ++i) announcer.at(i);
        loader.load(std::span(all).subspan(at, n), target);
        at += n;
    }
}

std::vector<WeightTarget> master_weights(State& state) {
    std::vector<WeightTarget> targets;
    for (const State::Entry& e : state.entries()) {
        if (state_role(e.name) != "weight") continue;
        const bool scaled = e.type.scaling != kUnscaled;
        WeightTarget target{e.name, e.type.shape, scaled ? Dtype::f32 : e.type.dtype, {}};
        target.write = [&state, about = target, scaled](std::span<const std::byte> values) {
            check_finite(about, values);
            if (!scaled) return state.write(about.name, values.data());
            const auto* floats = reinterpret_cast<const float*>(values.data());
            write_values(state, about.name, {floats, values.size() / sizeof(float)});
        };
        targets.push_back(std::move(target));
    }
    return targets;
}

}  // namespace octavo
