// Data-parallel loops for CPU kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace octavo {

// The number of threads that parallel_for may use (OMP_NUM_THREADS, else the processors this
// process may run on).
int thread_count();
// From now on; also for the libraries that share the threads. At least 1.
void set_thread_count(int threads);

namespace detail {
using RangeFn = void (*)(void* context, std::int64_t begin, std::int64_t end);
void parallel_for(std::int64_t n, std::int64_t grain, RangeFn fn, void* context);
}  // namespace detail

// Calls body(begin, end) on disjoint ranges that cover [0, n). Ranges are at least `grain` long, so
// small loops stay on the calling thread. The ranges depend on the thread count: a body must not
// accumulate across iterations if its result is to be independent of it.
template <class Body>
void parallel_for(std::int64_t n, std::int64_t grain, Body&& body) {
    using B = std::remove_reference_t<Body>;
    detail::parallel_for(
        n, grain,
        [](void* context, std::int64_t begin, std::int64_t end) {
            (*static_cast<B*>(context))(begin, end);
        },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

}  // namespace octavo
