// FP8-LM's exchange of a gradient among data-parallel ranks (arXiv 2310.18313, section 2.2) as pure
// functions of what all N ranks have. Nothing is sent here: this is the definition that exchanges
// between processes are compared with, bit for bit.
//
//     k     the power of two that next_scale gives for the largest amax of all ranks
//     q_i   = e4m3(g_i (k mu))                        what rank i sends; products in f32
//     c     = 1 / (N k mu), rounded to f32 once       from a sum of codes to the mean
//
//     exact  S = q_0 + q_1 + ... + q_(N-1), in f32 and this order; mean = S c
//     ring   in shard j: acc = q_(j+1); then acc = e4m3(acc + q_i), i = j+2, ..., j modulo N, as a
//            ring that adds at every hop does, with mean = acc c. It clips without a word where a
//            sum passes 448.
//
// Partial sums are multiples of 2^-9 up to 448 N. So for N <= 73 S is exact in any order. `mu`
// (auto_scale.h) is 1 unless something else is asked for. Elements are gradients accumulated over
// all micro-batches, in f32 (or bf16, whose values f32 has).
#pragma once

#include <span>
#include <vector>

#include "base/float16.h"
#include "base/float8.h"
#include "base/scale.h"

namespace octavo {

struct SentGradient {
    Scale scale;           // of all ranks, without mu
    bool finite = true;    // else some rank has an infinity or NaN, all ranks skip the step, and
                           // there is nothing else in here but the old scale
    float mean_scale = 1;  // c
    std::vector<std::vector<e4m3>> codes;  // (N, n)
};

// The casts of all ranks, g is (N, n). Keeps the `old` scale where the amax is no basis for one.
SentGradient cast_gradients(std::span<const std::vector<float>> g, const Scale& old, float mu = 1);

// S, (n), from the codes of all ranks.
std::vector<float> exact_sum(std::span<const std::vector<e4m3>> codes);
// The mean, (n), of elements that an owner keeps to itself (ZeRO), or that are gathered.
std::vector<float> exact_mean(const SentGradient&);

// What all ranks have of the mean once its shards are gathered: codes under a power of two from
// the amax of the whole mean (that of `sent` if it has none), or bf16.
struct GatheredGradient {
    Scale scale;
    std::vector<e4m3> codes;
};
GatheredGradient gather_fp8(std::span<const float> mean, const Scale& sent);
std::vector<bf16> gather_bf16(std::span<const float> mean);

// The codes that all ranks have after the ring; their scale is SentGradient::mean_scale.
std::vector<e4m3> ring_sum(std::span<const std::vector<e4m3>> codes);

}  // namespace octavo
