#include "backends/cuda/paged_attention.h"

namespace octavo::cuda {

void register_paged_attention(KernelRegistry& registry) {
    registry.add<PagedAttention>({"decode", reject_paged_decode, prepare_paged_decode});
    registry.add<PagedAttention>({"prefill", reject_paged_prefill, prepare_paged_prefill});
    registry.add<PagedAttention>({"rows", reject_paged_rows, prepare_paged_rows});
}

}  // namespace octavo::cuda
