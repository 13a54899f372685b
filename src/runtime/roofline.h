// The least time that a plan can take on a device: of each node its arithmetic at the rate that
// products of its operands' dtype were measured at, or its bytes at that of copies, whichever takes
// longer. Nodes do not overlap, and the plan's fusions are taken as they are.
#pragma once

#include <map>
#include <span>

#include "runtime/plan.h"

namespace octavo {

// What a node has to do.
struct Work {
    double flops = 0;          // of products and attention; causal at half, backward 2.5 x forward
    Dtype dtype = Dtype::f32;  // of their operands: e4m3, bf16 or f32, for others of that size
    double bytes = 0;          // operands and results, each once; of tables the rows in use
};
Work work_of(const Graph&, const Node&);

// Bytes a second, read plus written, of copies within the device's memory.
double measure_copy_rate(Backend&);

// FLOP/s by the dtype of Work, and bytes a second.
struct Rates {
    std::map<Dtype, double> flops_per_s;
    double bytes_per_s = 0;
};
// Measured now: of square products in every dtype that the plans have work in, and of copies.
Rates measure_rates(Backend&, std::span<const Plan* const>);

// Seconds of the nodes that arithmetic bounds, and of those that bytes do.
struct Floor {
    double arithmetic = 0, bytes = 0;
    double seconds() const { return arithmetic + bytes; }
};
Floor floor_of(const Plan&, const Rates&);

}  // namespace octavo
