// Shared by the kernels of rope.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "graph/op.h"

namespace octavo {

// Radians per position of each of the `half` pairs of a head, in double, scaling included.
std::vector<double> rope_frequencies(const Rope& op, std::int64_t half);

// Every layer asks for the same table, so those that are alive are shared: the table for `op` with
// this many positions and pairs, or the shared_ptr<const Table> that `make` returns.
template <class Table, class Make>
std::shared_ptr<const Table> shared_rope_table(const Rope& op, std::int64_t positions,
                                               std::int64_t half, Make&& make) {
    struct Entry {
        Rope op;
        std::int64_t positions, half;
        std::weak_ptr<const Table> table;
    };
    static std::mutex mutex;
    static std::vector<Entry> entries;

    Rope key = op;
    key.inverse = false;
    key.max_positions = 0;
    const std::lock_guard lock(mutex);
    std::erase_if(entries, [](const Entry& e) { return e.table.expired(); });
    for (const Entry& e : entries) {
        if (e.op == key && e.positions == positions && e.half == half) return e.table.lock();
    }
    std::shared_ptr<const Table> table = make();
    entries.push_back({key, positions, half, table});
    return table;
}

}  // namespace octavo
