#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

// The result is the operand's memory (Rules::view): there is nothing to do.
Prepared prepare(const NodeView&) {
    return {[](const KernelCall&) {}};
}

}  // namespace

void register_codes(KernelRegistry& registry) {
    registry.add<Codes>({"codes", takes_all, prepare});
}

}  // namespace octavo::cpu
