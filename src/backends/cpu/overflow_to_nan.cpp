#include <limits>

#include "backends/cpu/elementwise.h"
#include "backends/overflow.h"

namespace octavo::cpu {
namespace {

struct OverflowToNanFunction {
    FitsFormat fits;

    template <class C>
    C operator()(C x) const {
        return fits(x) ? x : std::numeric_limits<C>::quiet_NaN();
    }
};

Prepared prepare(const NodeView& node) {
    return prepare_map(node, OverflowToNanFunction{fits_format(std::get<OverflowToNan>(node.op))});
}

}  // namespace

void register_overflow_to_nan(KernelRegistry& registry) {
    registry.add<OverflowToNan>({"overflow_to_nan", takes_all, prepare});
}

}  // namespace octavo::cpu
