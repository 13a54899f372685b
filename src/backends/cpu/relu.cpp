#include "backends/cpu/elementwise.h"

namespace octavo::cpu {
namespace {

struct ReluFunction {
    template <class C>
    C operator()(C x) const {
        return x < C(0) ? C(0) : x;
    }
};

Prepared prepare(const NodeView& node) { return prepare_map(node, ReluFunction{}); }

}  // namespace

void register_relu(KernelRegistry& registry) { registry.add<Relu>({"relu", takes_all, prepare}); }

}  // namespace octavo::cpu
