// Tells the user when 8 bits lose more of a tensor than they should.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "report/scales.h"

namespace octavo {

// Shares of a tensor's values above which it is worth a line.
inline constexpr float kSaturatedLimit = 0.001f;
inline constexpr float kFlushedLimit = 0.01f;

class CastWarnings {
  public:
    // What to print about a measured step: of the tensors that go beyond a limit for the first
    // time, the worst one by name and the number of the others, a line for saturated and one for
    // flushed values. Empty if there is nothing new.
    std::vector<std::string> look_at(const CastStep&);

    // At the end of a run, one line; empty if nothing went beyond a limit.
    std::string summary() const;

  private:
    std::set<std::string> saturated_, flushed_;  // tensors that were warned of
};

}  // namespace octavo
