#include "backends/cuda/row_copies.cuh"

namespace octavo::cuda {
namespace {

Prepared prepare(const NodeView&) {
    return {[](const KernelCall& call) { copy_chosen_rows("embedding", call); }};
}

}  // namespace

void register_embedding(KernelRegistry& registry) {
    registry.add<Embedding>({"embedding", takes_all, prepare});
}

}  // namespace octavo::cuda
