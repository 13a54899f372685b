// What the system says about this process.
#pragma once

#include <cstdint>

namespace octavo {

std::int64_t resident_bytes();       // now
std::int64_t peak_resident_bytes();  // since the process started
double unix_time_s();

}  // namespace octavo
