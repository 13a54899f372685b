// Calls for many items of different lengths, on all threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>

#include "base/parallel.h"

namespace octavo {

// Calls body(thread, i) for all i in [0, n); `thread` in [0, thread_count()) is one call's at a
// time. Each thread takes the next item when it is done with one. Throws what the call with the
// lowest i threw, after all others.
template <class Body>
void for_each_item(std::size_t n, Body&& body) {
    std::atomic<std::size_t> next = 0;
    std::mutex mutex;
    std::exception_ptr error;
    std::size_t failed = n;
    parallel_for(thread_count(), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t thread = begin; thread < end; ++thread) {
            for (std::size_t i; (i = next.fetch_add(1)) < n;) {
                try {
                    body(static_cast<std::size_t>(thread), i);
                } catch (...) {
                    const std::lock_guard lock(mutex);
                    if (i >= failed) continue;
                    failed = i;
                    error = std::current_exception();
                }
            }
        }
    });
    if (error) std::rethrow_exception(error);
}

}  // namespace octavo
