// The rules of fuse.cpp's table, which lists them in their order, and what they share.
#pragma once

#include "passes/fuse.h"

namespace octavo::fusions {

using Rule = bool(const Matcher&, const Node&, Rewriter&);

// fuse_head.cpp
Rule head_loss, head_accumulate;
// fuse_matmul.cpp
Rule matmul_cast, matmul_bias, matmul_exponent, matmul_accumulate, embedding_accumulate;
// fuse_joined.cpp
Rule joined_swiglu, qkv_to_cache;
// fuse_result.cpp
Rule norm_grad_accumulate, measure_norm_grad, norm_statistics, scale_along_accumulate,
    scaled_add_cast, amax_of_result, copy_of_weight;
// fuse_quantise.cpp
Rule delayed_quantise_transpose, quantise_transpose, cast_transpose, cast_source, quantise_source,
    quantise_scaled, quantise_norm, current_quantise, current_quantise_source,
    current_quantise_norm, current_quantise_smooth, block_quantise_columns, block_quantise_source,
    block_quantise_norm, rms_norm_quantise;

// What `term` is added to; "no value" if it is computed only after `term`.
Value term_before(const Node& add, Value term, const Rewriter&);
// The only reader of `v` if it is a sum without factors.
const Node* only_reader_as_sum(const Matcher&, Value v);
// Emits the nodes that `v` comes from where they are not there yet; false if it depends on `n`.
bool bring_forward(const Matcher&, Value v, const Node& n, Rewriter&);

}  // namespace octavo::fusions
