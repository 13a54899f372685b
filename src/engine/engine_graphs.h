// The two graphs of a step of generation: the body takes tokens of any sequences to final hidden
// states, the head takes chosen hidden states to logits and draws tokens.
#pragma once

#include "models/model.h"
#include "passes/target.h"
#include "recipes/recipe.h"

namespace octavo {

// Keys and values of the whole model, as State holds them.
struct CacheForm {
    std::int64_t blocks = 1, block = 16;
    std::int64_t table = 1;     // blocks of the longest sequence
    bool coded = false;         // in e4m3
    bool fp8_products = false;  // of attention
    CacheContext::Ranges ranges{};
};

// Where the body's hidden states wait for the head: (rows, C) in State. Under `kv/` like everything
// that outlives a run of the forward part.
inline constexpr std::string_view kHiddenRows = "kv/hidden";

// `batch` x `time` tokens of up to `sequences` sequences. Inputs: ids, positions, slots, sequences
// (batch, time) i32 as CacheContext has them, tables (sequences, table) i32. Output: hidden
// (batch * time, C).
Graph body_graph(const Architecture&, const Recipe&, std::int64_t batch, std::int64_t time,
                 std::int64_t sequences, const CacheForm&, bool calibrate, const Target&);

// Inputs: rows (R) i32 of kHiddenRows, which has `hidden_rows`; reals (R, 2) and integers (R, 4) of
// ops/sample.cpp. Outputs: logits (R, V) f32, tokens (R) i32, logprobs (R) f32.
Graph head_graph(const Architecture&, const Recipe&, std::int64_t rows, std::int64_t hidden_rows,
                 const Target&);

}  // namespace octavo
