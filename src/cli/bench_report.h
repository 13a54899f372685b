// What the measurements of `octavo bench` share: their results and how they are shown.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "cli/verb.h"
#include "runtime/plan.h"

namespace octavo {

using Json = nlohmann::ordered_json;

double median(std::vector<double> values);

// Version, processor and GPU: how every result begins.
Json machine_facts(const Backend&);
// --json: the file that results are appended to, a line each.
Flag json_flag();
void append_result(const Args&, const Json& result);

// Seconds by op and kernel over one run of a plan.
void print_breakdown(Backend&, Plan&, std::string_view title);

}  // namespace octavo
