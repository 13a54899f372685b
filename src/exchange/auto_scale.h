// FP8-LM's automatic scaling (arXiv 2310.18313, section 2.2): gradients are multiplied by mu before
// they are cast to be summed in 8 bits, and mu is halved whenever too many values lie at the top
// code, else grows by a factor of two in a thousand steps.
//
// mu = 2^(L / 1000) with L an integer, one for each gradient and the same on all ranks: bits can be
// reproduced, and a checkpoint keeps L. A step that is skipped does not change L.
//
// What is watched decides what is protected. The scale already brings the largest gradient of all
// ranks to (224, 448], so what ranks send (`local`, as published) reaches the top code only where
// mu is about 1, however many ranks there are: the sum is not protected. The reduced codes are, and
// are what to watch in a run that is to train.
#pragma once

#include <span>
#include <vector>

#include "base/float8.h"

namespace octavo {

struct AutoScaleRule {
    double threshold = 1e-5;  // the share of values at the top code above which mu is halved
    int growth = 1;           // of L, where it is not
};

// L of 1 / sqrt(N), where it begins.
int initial_log_mu(int ranks);
// 2^(L / 1000), rounded to f32.
float mu_of(int log_mu);
// L for the next step, kept within -16000 and 1000.
int next_log_mu(int log_mu, double saturated, const AutoScaleRule& rule = {});

// The share of codes of the largest magnitude: of the reduced gradient.
double saturated_share(std::span<const e4m3> codes);
// The largest such share of any rank: of what ranks send, (N, n).
double largest_saturated_share(std::span<const std::vector<e4m3>> codes);

}  // namespace octavo
