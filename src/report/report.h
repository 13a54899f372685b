// report.html: one page, complete in itself, that shows one run or compares several.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "report/run.h"

namespace octavo {

// The page needs no network and no script (a script adds values under the pointer). It stays
// below 1 MB for a dozen runs of any length. Throws Error without runs or for a run without steps.
std::string render_report(std::span<const RunData> runs);

void write_report(const std::filesystem::path& path, std::span<const RunData> runs);

}  // namespace octavo
