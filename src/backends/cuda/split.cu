#include "backends/cuda/row_copies.cuh"

namespace octavo::cuda {
namespace {

void split(const KernelCall& call) { copy_pieces<true>("split", call.in[0], call.out); }

Prepared prepare(const NodeView&) { return {split}; }

}  // namespace

void register_split(KernelRegistry& registry) {
    registry.add<Split>({"split", takes_all, prepare});
}

}  // namespace octavo::cuda
