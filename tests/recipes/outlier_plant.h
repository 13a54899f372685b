// What the tests of provoked outliers share: linear algebra for a direction that nothing in a model
// uses yet, and the recipes to compare.
#pragma once

#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <vector>

#include "recipes/recipe.h"

namespace octavo::test {

inline void normalise(std::vector<double>& x) {
    const double norm = std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
    for (double& v : x) v /= norm;
}

// Takes the component along the unit vector u from x, whose elements are `step` apart.
inline void remove(const std::vector<double>& u, float* x, std::size_t step) {
    double along = 0;
    for (std::size_t i = 0; i < u.size(); ++i) along += u[i] * double{x[i * step]};
    for (std::size_t i = 0; i < u.size(); ++i) x[i * step] -= static_cast<float>(along * u[i]);
}

// The unit vector x that makes x^T A x smallest, for a symmetric positive definite A (n x n): by
// solving A y = x again and again.
inline std::vector<double> smallest_direction(const std::vector<double>& a, std::size_t n) {
    std::vector<double> lu = a;  // LDL^T by elimination
    for (std::size_t k = 0; k < n; ++k) {
        for (std::size_t i = k + 1; i < n; ++i) {
            const double factor = lu[i * n + k] / lu[k * n + k];
            lu[i * n + k] = factor;
            for (std::size_t j = k + 1; j < n; ++j) lu[i * n + j] -= factor * lu[k * n + j];
        }
    }
    std::vector<double> x(n, 1);
    for (int iteration = 0; iteration < 200; ++iteration) {
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = 0; j < i; ++j) x[i] -= lu[i * n + j] * x[j];
        }
        for (std::size_t i = n; i-- > 0;) {
            for (std::size_t j = i + 1; j < n; ++j) x[i] -= lu[i * n + j] * x[j];
            x[i] /= lu[i * n + i];
        }
        normalise(x);
    }
    return x;
}

// fp8-lm, with another source of the scales of activations or with Smooth-SwiGLU.
inline Recipe arm(Provider activation, std::optional<Axis> axis, Provider hidden) {
    Recipe r = recipe_named("fp8-lm");
    r.activation->provider = activation;
    if (axis) {
        r.smooth = Smooth{.axis = *axis, .hidden = *r.activation};
        r.smooth->hidden.provider = hidden;
    }
    return r;
}

}  // namespace octavo::test
