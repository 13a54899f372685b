// recipe.state_rescale (arXiv 2407.17353): now and then, weights and moments are brought to a root
// mean square in [1, 2) by a power of two, which goes into their scales. All of it on the host,
// between two steps.
#pragma once

#include <map>
#include <span>
#include <string>

#include "runtime/state.h"
#include "train/step_graphs.h"

namespace octavo {

using Exponents = std::map<std::string, int, std::less<>>;  // by parameter

struct TensorSize {
    double l2 = 0;  // sqrt(mean x^2)
    float amax = 0;
};
TensorSize tensor_size(std::span<const float> values);

// The e with l2 in [2^e, 2^(e + 1)), from where it was: data shrinks by 2^-14 at most, as what
// DynamicRescale measures. Larger where the largest value would not fit a format that saturates,
// and never beyond 2^-40 to 2^40. Zeros, and what is not finite, stay where they were.
int rescaled_exponent(const TensorSize&, Dtype, int old);

// Measures all weights, and writes those under one scale again under their new one. The result is
// for Propagation::exponents: what differs from the exponents of initialisations.
Exponents rescale_weights(State&, const StepOptions&);
// Moments under scales, and their bounds: AdamBounds goes on from what was measured.
void rescale_moments(State&, const StepOptions&);

// In a checkpoint's manifest; none there: all have the exponents of their initialisation.
inline constexpr const char* kExponents = "weight_exponents";
std::string to_text(const Exponents&);  // "name=-5,name=2"
Exponents exponents_in(const std::map<std::string, std::string>& extra);

}  // namespace octavo
