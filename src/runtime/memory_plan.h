// Where every value of a graph lives, decided before anything is allocated.
//
// Values get an offset in one arena, shared by values whose lifetimes do not meet; or they are
// views of other values, of caller-filled inputs, or of State. Results that are about to be stored
// go straight into State where no later node still wants the old contents.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octavo {

enum class Storage : std::uint8_t { arena, input, state };

struct Placement {
    Storage storage = Storage::arena;
    std::int64_t offset = 0;  // arena and input: bytes from the start of the region
    std::string state;        // state: the tensor's name
};

// A block of the arena, for memory reports: who holds it, and between which nodes.
struct Block {
    std::int64_t offset = 0, bytes = 0;
    std::int32_t first = 0, last = 0;  // node indices, inclusive
    Value value;                       // the first value that used it
};

struct MemoryPlan {
    std::vector<Placement> placements;  // by value id
    std::vector<bool> store_copies;     // by node index: this Store has to copy
    std::vector<Block> blocks;
    std::int64_t arena_bytes = 0;
    std::int64_t input_bytes = 0;
};

// `in_place`, by node: whether the node's kernel lets results lie on operands as the rules allow;
// empty: all do.
MemoryPlan plan_memory(const Graph&, const std::vector<bool>& in_place = {});

// The blocks alive at the node where they add up to most, largest first, and their sum.
struct Peak {
    std::int32_t node = 0;
    std::int64_t bytes = 0;
    std::vector<Block> blocks;
};
Peak find_peak(const MemoryPlan&);

}  // namespace octavo
