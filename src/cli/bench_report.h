// What the measurements of `octavo bench` share: their results and how they are shown.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "cli/load_sampler.h"
#include "cli/verb.h"
#include "runtime/plan.h"

namespace octavo {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start);
double median(std::vector<double> values);

// Version, processor and GPU: how every result begins.
Json machine_facts(const Backend&);
// What of the config tells two runs of a recipe apart: keys of the recipe, the optimizer and the
// runtime that are not their defaults, by name.
Json options_of(const RunConfig&);
// --json: the file that results are appended to, a line each.
Flag json_flag();
void append_result(const Args&, const Json& result);

// Prints the time by op and kernel over one run of a plan; returns the milliseconds by op, products
// by their kind.
Json print_breakdown(Backend&, Plan&, std::string_view title);

}  // namespace octavo
