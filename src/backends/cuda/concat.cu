#include "backends/cuda/row_copies.cuh"

namespace octavo::cuda {
namespace {

void concat(const KernelCall& call) { copy_pieces<false>("concat", call.out[0], call.in); }

Prepared prepare(const NodeView&) { return {concat}; }

}  // namespace

void register_concat(KernelRegistry& registry) {
    registry.add<Concat>({"concat", takes_all, prepare});
}

}  // namespace octavo::cuda
