// What 8 bits would do to tensors of a file: quantised as training quantises them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "recipes/recipe.h"
#include "runtime/backend.h"

namespace octavo {

struct QuantiseRequest {
    std::filesystem::path in, out;  // safetensors files
    std::string tensor;             // empty: all tensors of floating-point elements
    Format format;
};

// How far a tensor's values are from what its codes stand for.
struct QuantiseError {
    std::string tensor;
    double snr_db = 0;          // 10 log10(sum x^2 / sum (x - x^)^2); infinite if all are exact
    double worst_relative = 0;  // |x - x^| / |x| of elements that are neither 0 nor flushed
    double saturated = 0;       // share of elements beyond the largest code
    double flushed = 0;         // share of non-zero elements that became 0
};

// Vectors count as one row. For each tensor the file gets
//     <name>.codes    U8, the tensor's shape
//     <name>.scale    F32: [1], [rows], [rows, blocks] or [block rows, blocks]
//     <name>.local    F8_E8M0 [rows, groups], micro groups only
//     <name>.dequant  F32, the tensor's shape
// Error for a tensor that is not there, or a file without any.
std::vector<QuantiseError> inspect_quantise(const QuantiseRequest&, Backend&);

std::string to_text(const std::vector<QuantiseError>&);

}  // namespace octavo
