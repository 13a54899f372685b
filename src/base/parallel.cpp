#include "base/parallel.h"

#include <algorithm>

// OpenMP shares its threads with oneDNN. ThreadSanitizer cannot see libgomp's synchronisation, so
// under it, and where a compiler has no OpenMP, the same ranges run on std::thread.
#if defined(__SANITIZE_THREAD__) || !defined(_OPENMP)
#define OCTAVO_STD_THREADS
#endif

#ifdef OCTAVO_STD_THREADS
#include <thread>
#include <vector>
#else
#include <omp.h>
#endif

namespace octavo {

#ifdef OCTAVO_STD_THREADS

namespace {
int g_threads = 2;
}

int thread_count() { return g_threads; }
void set_thread_count(int threads) { g_threads = threads; }

void detail::parallel_for(std::int64_t n, std::int64_t grain, RangeFn fn, void* context) {
    const std::int64_t parts =
        std::min<std::int64_t>(thread_count(), n / std::max<std::int64_t>(grain, 1));
    if (parts <= 1) {
        if (n > 0) fn(context, 0, n);
        return;
    }
    std::vector<std::jthread> threads;
    for (std::int64_t i = 0; i < parts; ++i) {
        threads.emplace_back([=] { fn(context, n * i / parts, n * (i + 1) / parts); });
    }
}

#else

int thread_count() { return omp_get_max_threads(); }
void set_thread_count(int threads) { omp_set_num_threads(threads); }

void detail::parallel_for(std::int64_t n, std::int64_t grain, RangeFn fn, void* context) {
    const std::int64_t parts =
        std::min<std::int64_t>(thread_count(), n / std::max<std::int64_t>(grain, 1));
    if (parts <= 1 || omp_in_parallel()) {
        if (n > 0) fn(context, 0, n);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(parts))
    for (std::int64_t i = 0; i < parts; ++i) fn(context, n * i / parts, n * (i + 1) / parts);
}

#endif

}  // namespace octavo
