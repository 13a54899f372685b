#include "backends/cpu/kernels.h"

namespace octavo::cpu {
namespace {

// Threads share the columns, not the tokens: each column is summed in token order by one thread.
template <class T>
void embedding_grad(const KernelCall& call) {
    using C = compute_t<T>;
    const T* dy = call.in[0].as<T>();
    const std::int32_t* ids = call.in[1].as<std::int32_t>();
    C* dtable = call.out[0].as<C>();
    const std::int64_t tokens = call.in[0].type.shape.rows(), c = call.in[0].type.shape.last();
    const C* acc = call.in.size() == 3 ? call.in[2].as<C>() : nullptr;
    parallel_for(call.out[0].type.shape.elements(), row_grain(1),
                 [&](std::int64_t begin, std::int64_t end) {
                     if (!acc) {
                         std::fill(dtable + begin, dtable + end, C(0));
                     } else if (acc != dtable) {
                         std::copy(acc + begin, acc + end, dtable + begin);
                     }
                 });
    const std::int64_t grain = std::max<std::int64_t>(16, row_grain(tokens));  // a cache line
    parallel_for(c, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = 0; t < tokens; ++t) {
            if (ids[t] < 0) continue;
            const T* from = dy + t * c;
            C* to = dtable + ids[t] * c;
#pragma omp simd
            for (std::int64_t i = begin; i < end; ++i) to[i] += C(from[i]);
        }
    });
}

Prepared prepare(const NodeView& node) {
    return dispatch_plain(node.in[0].dtype, [](auto tag) {
        return Prepared{embedding_grad<typename decltype(tag)::type>};
    });
}

}  // namespace

void register_embedding_grad(KernelRegistry& registry) {
    registry.add<EmbeddingGrad>({"embedding_grad", takes_all, prepare});
}

}  // namespace octavo::cpu
