#include "report/axis.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace octavo {
namespace {

bool close(double a, double b) { return std::abs(a - b) <= 1e-6 * std::max(std::abs(a), 1e-300); }

// `value` with as few decimals as tell it, at most six.
std::string shortest(double value) {
    for (int decimals = 0;; ++decimals) {
        std::string text = fmt::format("{:.{}f}", value, decimals);
        if (decimals == 6 || close(value, std::strtod(text.c_str(), nullptr))) return text;
    }
}

// The smallest of 1, 2, 5 times a power of ten that is at least `size`.
double round_step(double size) {
    const double power = std::pow(10, std::floor(std::log10(size)));
    for (const double factor : {1.0, 2.0, 5.0}) {
        if (factor * power >= size * 0.999) return factor * power;
    }
    return 10 * power;
}

std::vector<Tick> linear_ticks(double lo, double hi, int about) {
    const double step = round_step((hi - lo) / about);
    std::vector<Tick> ticks;
    for (double i = std::ceil(lo / step - 1e-6); i * step <= hi + 1e-6 * step; ++i) {
        ticks.push_back({i * step, tick_label(i * step)});
    }
    return ticks;
}

std::vector<Tick> log_ticks(double lo, double hi, int about) {
    const int first = static_cast<int>(std::floor(std::log10(lo)));
    const int last = static_cast<int>(std::floor(std::log10(hi)));
    const auto collect = [&](std::initializer_list<double> factors, int stride) {
        std::vector<Tick> ticks;
        for (int power = first; power <= last; ++power) {
            if (power % stride != 0) continue;
            for (const double factor : factors) {
                const double value = factor * std::pow(10, power);
                if (value >= lo * (1 - 1e-9) && value <= hi * (1 + 1e-9)) {
                    ticks.push_back({value, tick_label(value)});
                }
            }
        }
        return ticks;
    };
    std::vector<Tick> ticks = collect({1, 2, 5}, 1);
    for (int stride = 1; static_cast<int>(ticks.size()) > about + 2; ++stride) {
        ticks = collect({1}, stride);
    }
    return ticks.size() >= 3 ? ticks : linear_ticks(lo, hi, about);
}

}  // namespace

Axis::Axis(double lo, double hi, bool log) : lo_(lo), hi_(hi), log_(log) {
    if (!std::isfinite(lo_) || !std::isfinite(hi_)) lo_ = log ? 1 : 0, hi_ = 10;
    if (log && !(lo_ > 0)) lo_ = hi_ > 0 ? hi_ / 1e3 : 1;
    if (!(hi_ - lo_ > 1e-9 * std::abs(lo_))) {
        const double pad = lo_ == 0 ? 1 : 0.05 * std::abs(lo_);
        hi_ = lo_ + pad;
        lo_ -= log || lo_ == 0 ? 0 : pad;
    }
}

double Axis::at(double value) const {
    if (!log_) return (value - lo_) / (hi_ - lo_);
    return (std::log(value) - std::log(lo_)) / (std::log(hi_) - std::log(lo_));
}

std::vector<Tick> Axis::ticks(int about) const {
    return log_ ? log_ticks(lo_, hi_, about) : linear_ticks(lo_, hi_, about);
}

std::string tick_label(double value) {
    const double size = std::abs(value);
    if (size < 1e-12) return "0";
    if (size < 0.999e-2 || size >= 1e15) {
        const int power = static_cast<int>(std::floor(std::log10(size) + 1e-9));
        return fmt::format("{}e{}", shortest(value / std::pow(10, power)), power);
    }
    if (size >= 1e9) return shortest(value / 1e9) + "G";
    if (size >= 1e6) return shortest(value / 1e6) + "M";
    if (size >= 1e3) return shortest(value / 1e3) + "k";
    return shortest(value);
}

}  // namespace octavo
