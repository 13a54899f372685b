// Numbers and text as people read them, shared by the console, the table and the report.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace octavo {

std::string format_loss(double loss);          // "2.3456", "1.23e+05", "nan"
std::string format_compact(double value);      // three digits: "983", "61.2k", "1.24M"
std::string format_count(std::int64_t value);  // "1,234,567"
std::string format_bytes(std::int64_t bytes);  // "81.8 MB", powers of 1000
std::string format_duration(double seconds);   // "45s", "12m03s", "3h07m", "2d04h"
std::string format_percent_change(double value, double reference);  // "+0.37 %", "-20.2 %", ""
std::string html_escape(std::string_view text);

}  // namespace octavo
