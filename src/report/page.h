// The parts of report.html that are the same for all reports.
#pragma once

#include <string_view>

namespace octavo {

extern const std::string_view kPageStyle;
extern const std::string_view kPageScript;

}  // namespace octavo
