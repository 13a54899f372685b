// Axes: from values to places, and ticks at round numbers.
#pragma once

#include <string>
#include <vector>

namespace octavo {

struct Tick {
    double value;
    std::string label;
};

class Axis {
  public:
    // `lo` < `hi`, and 0 < `lo` if logarithmic; anything else is widened until it is so.
    Axis(double lo, double hi, bool log = false);

    double lo() const { return lo_; }
    double hi() const { return hi_; }
    bool log() const { return log_; }

    double at(double value) const;  // 0 at lo, 1 at hi; not finite for values off a log axis
    std::vector<Tick> ticks(int about) const;

  private:
    double lo_, hi_;
    bool log_;
};

// The shortest usual way to write a tick: "0", "0.25", "12k", "3e-4".
std::string tick_label(double value);

}  // namespace octavo
