#include "exchange/smooth_factors.h"

#include "base/scale_rule.h"

namespace octavo {

std::vector<float> token_factors(std::span<const float> amax, FactorSync sync,
                                 ScaleRounding rounding) {
    float top = 0;
    for (const float a : amax) top = a > top || a != a ? a : top;  // NaN stays: nothing is above it
    std::vector<float> factors;
    for (const float a : amax) {
        factors.push_back(smooth_factor(sync == FactorSync::shared ? top : a, rounding));
    }
    return factors;
}

}  // namespace octavo
