#include "backends/cuda/row_copies.cuh"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) { copy_chosen_rows("gather_rows", call); }};
}

}  // namespace

void register_gather_rows(KernelRegistry& registry) {
    registry.add<GatherRows>({"gather_rows", takes_all, prepare});
}

}  // namespace octavo::cuda
