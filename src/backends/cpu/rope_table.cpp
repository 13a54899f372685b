#include "backends/cpu/rope_table.h"

#include <cmath>
#include <mutex>
#include <numbers>

#include "base/parallel.h"

namespace octavo::cpu {
namespace {

// Llama 3.1: wavelengths that the original context holds high_freq_factor times or more stay as
// they are, those it holds less than low_freq_factor times are stretched by `factor`, and between
// the two the frequency is interpolated.
double scaled(double frequency, const RopeScaling& s) {
    if (s.kind == RopeScaling::Kind::none) return frequency;
    const double turns =
        static_cast<double>(s.original_max_positions) * frequency / (2 * std::numbers::pi);
    if (turns > s.high_freq_factor) return frequency;
    if (turns < s.low_freq_factor) return frequency / s.factor;
    const double smooth = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

template <class C>
RopeTable<C> make_table(const Rope& op, std::int64_t positions, std::int64_t half) {
    std::vector<double> frequency(half);
    for (std::int64_t i = 0; i < half; ++i) {
        const double exponent = -static_cast<double>(i) / static_cast<double>(half);
        frequency[i] = scaled(std::pow(op.theta, exponent), op.scaling);
    }
    RopeTable<C> table{std::vector<C>(positions * half), std::vector<C>(positions * half)};
    parallel_for(positions, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end; ++p) {
            for (std::int64_t i = 0; i < half; ++i) {
                const double angle = static_cast<double>(p) * frequency[i];
                table.cosine[p * half + i] = static_cast<C>(std::cos(angle));
                table.sine[p * half + i] = static_cast<C>(std::sin(angle));
            }
        }
    });
    return table;
}

}  // namespace

template <class C>
std::shared_ptr<const RopeTable<C>> rope_table(const Rope& op, std::int64_t positions,
                                               std::int64_t half) {
    struct Entry {
        Rope op;
        std::int64_t positions, half;
        std::weak_ptr<const RopeTable<C>> table;
    };
    static std::mutex mutex;
    static std::vector<Entry> entries;

    Rope key = op;
    key.inverse = false;
    key.max_positions = 0;
    const std::lock_guard lock(mutex);
    std::erase_if(entries, [](const Entry& e) { return e.table.expired(); });
    for (const Entry& e : entries) {
        if (e.op == key && e.positions == positions && e.half == half) return e.table.lock();
    }
    auto table = std::make_shared<const RopeTable<C>>(make_table<C>(op, positions, half));
    entries.push_back({key, positions, half, table});
    return table;
}

template std::shared_ptr<const RopeTable<float>> rope_table(const Rope&, std::int64_t,
                                                            std::int64_t);
template std::shared_ptr<const RopeTable<double>> rope_table(const Rope&, std::int64_t,
                                                             std::int64_t);

}  // namespace octavo::cpu
